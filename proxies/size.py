"""Sizes as scores: larger networks of a space tend to be more accurate.

The baseline every proxy must beat (Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS,
arXiv:2101.08134; White et al., arXiv:2108.01899). Counted over operations that reach the output.
"""

from jaxnas.proxy import CountProxy

params = CountProxy(
    name="params",
    paper="White et al., A Deeper Look at Zero-Cost Proxies for Lightweight NAS, ICLR Blog 2022",
    formula="weights, biases, scales and shifts",
    count=lambda network, archs: network.count(archs).params,
)

macs = CountProxy(
    name="macs",
    paper="White et al., A Deeper Look at Zero-Cost Proxies for Lightweight NAS, ICLR Blog 2022",
    formula="multiply-adds of convolutions and linear layers, one image",
    count=lambda network, archs: network.count(archs).macs,
)

depth = CountProxy(
    name="depth",
    paper="Simonyan and Zisserman, Very Deep Convolutional Networks, arXiv:1409.1556",
    formula="longest chain of convolutions and linear layers from images to logits; 0 if there is none",
    count=lambda network, archs: network.depth(archs),
)
