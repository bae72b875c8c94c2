"""The inverted residual of mobile networks with everything about it to be chosen."""

from typing import NamedTuple

from flax import nnx

from jaxnas.nn import (
    BatchNorm,
    Choice,
    Context,
    Conv,
    Identity,
    ReLU,
    Sequential,
    SqueezeExcite,
    Width,
)


class Kernels(NamedTuple):
    """The column that chooses, and the kernels that it chooses from."""

    column: int
    sizes: tuple[int, ...]


class ElasticMBConv(nnx.Module):
    """`jaxnas.nn.MBConv` whose kernel, hidden channels and squeeze-excite architectures choose.

    The 1x1 convolutions exist once, whatever the kernel; `squeeze_excite` is the column that it is
    chosen by.
    """

    def __init__(
        self,
        inputs: Width,
        outputs: Width,
        hidden: Width,
        *,
        kernels: Kernels,
        squeeze_excite: int,
        stride: int,
        activation: type[ReLU],
    ) -> None:
        depthwise = {
            k: Conv(hidden, hidden, k, stride=stride, groups=hidden.largest) for k in kernels.sizes
        }
        self.expand = Sequential(Conv(inputs, hidden, 1), BatchNorm(hidden), activation())
        self.depthwise = Choice(kernels.column, depthwise)
        self.activate = Sequential(BatchNorm(hidden), activation())
        self.excite = Choice(squeeze_excite, {"no": Identity(), "yes": SqueezeExcite(hidden)})
        self.project = Conv(hidden, outputs, 1)
        self.norm = BatchNorm(outputs)
        self.residual = stride == 1 and inputs == outputs

    def identity_at_zero(self) -> list[nnx.Param]:
        """Parameters at whose value 0 only the residual connection is left."""
        assert self.residual
        return [self.norm.scale, self.norm.bias]

    def __call__(self, x, ctx: Context):
        """`[B, H, W, inputs] -> [B, ceil(H / stride), ceil(W / stride), outputs]`."""
        y = self.activate(self.depthwise(self.expand(x, ctx), ctx), ctx)
        y = self.norm(self.project(self.excite(y, ctx), ctx), ctx)
        y = ctx.add([x, y]) if self.residual else y
        return y
