"""Architecture, hyper-parameters and augmentation by gradient, in one run that ends with a model."""

from jaxnas.joint.run import JointEpoch
from jaxnas.joint.search import Joint, begin, search
from jaxnas.joint.settings import Settings
from jaxnas.joint.state import JointState, Outer, Tuned

__all__ = ["Joint", "JointEpoch", "JointState", "Outer", "Settings", "Tuned", "begin", "search"]
