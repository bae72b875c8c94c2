"""Training-free proxies, by name. A new one is a file here, a line in `PROXIES` and its reference in
`tests/proxies/`."""

from collections.abc import Callable, Iterable
from typing import Any

from jaxnas.errors import InputError, unknown
from jaxnas.proxies.attention import dss
from jaxnas.proxies.az_nas import (
    az_complexity,
    az_expressivity,
    az_progressivity,
    az_trainability,
)
from jaxnas.proxies.expressivity import gradsign, zen, zico
from jaxnas.proxies.features import meco, near
from jaxnas.proxies.jacobian import epe_nas, jacov
from jaxnas.proxies.kernel import ntk, vkdnw
from jaxnas.proxies.own import as_proxy, imported
from jaxnas.proxies.presets import PRESETS
from jaxnas.proxies.regions import linear_regions
from jaxnas.proxies.relu_overlap import naswot, swap, swap_reg
from jaxnas.proxies.saliency import fisher, grad_norm, grasp, l2_norm, plain, snip
from jaxnas.proxies.size import depth, macs, params
from jaxnas.proxies.synflow import synflow
from jaxnas.proxy import Proxy

__all__ = ["DEFAULT", "PRESETS", "PROXIES", "as_proxy", "get_proxies"]

PROXIES: dict[str, Proxy] = {
    p.name: p
    for p in (
        naswot,
        swap,
        swap_reg,
        linear_regions,
        jacov,
        epe_nas,
        ntk,
        vkdnw,
        meco,
        near,
        zen,
        zico,
        gradsign,
        az_expressivity,
        az_progressivity,
        az_trainability,
        az_complexity,
        params,
        macs,
        depth,
        grad_norm,
        snip,
        grasp,
        fisher,
        plain,
        l2_norm,
        synflow,
        dss,
    )
}

DEFAULT = ("naswot", "params")
"""What a module is scored by unless told otherwise; a space names its own (`default_proxies`)."""


def get_proxies(names: Iterable[str | Proxy | Callable[..., Any]]) -> tuple[Proxy, ...]:
    """The proxies of these names.

    The user's own go by `module:function`, or are themselves among the names, as they are or as
    functions (`as_proxy`).

    Raises:
        InputError: an unknown name (with the nearest ones), a name twice, none at all, a module that
            cannot be imported or an object that is no proxy.
    """
    names = list(names)
    if not names:
        raise InputError("No proxy was given; expected one or more names, as in naswot,params.")
    found = tuple(_proxy(name) for name in names)
    known = [p.name for p in found]
    for name in known:
        if known.count(name) > 1:
            raise InputError(f"A proxy is named twice in {','.join(known)}.")
        if name in TAKEN or (name.endswith("_std") and name.removesuffix("_std") in known):
            raise InputError(
                f"A proxy goes by the name {name}, which is a column of rankings; give it another."
            )
    return found


TAKEN = ("index", "arch", "score", "rank")
"""Names of a ranking's other columns."""


def _proxy(given: str | Proxy | Callable[..., Any]) -> Proxy:
    if isinstance(given, Proxy):
        return given
    if not isinstance(given, str):
        return as_proxy(given)
    return imported(given) if ":" in given else _registered(given)


def _registered(name: str) -> Proxy:
    if name in PRESETS:
        raise InputError(
            f"{name} is a combination of proxies and cannot be used as one here; "
            f"name its members: {','.join(PRESETS[name].proxies)}."
        )
    if name not in PROXIES:
        raise unknown("proxy", name, [*PROXIES, *PRESETS])
    return PROXIES[name]
