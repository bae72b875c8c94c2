"""Sizes as scores: larger networks of a space tend to be more accurate.

The baseline every proxy must beat (Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS,
arXiv:2101.08134; White et al., arXiv:2108.01899). Counted over operations that reach the output.
"""

from jaxnas.proxy import CountProxy

params = CountProxy(
    name="params",
    paper="White et al., A Deeper Look at Zero-Cost Proxies for Lightweight NAS, ICLR Blog 2022",
    count=lambda network, archs: network.count(archs).params,
)

macs = CountProxy(
    name="macs",
    paper="White et al., A Deeper Look at Zero-Cost Proxies for Lightweight NAS, ICLR Blog 2022",
    count=lambda network, archs: network.count(archs).macs,
)
