"""External networks: any of diffusers by class name, and the user's own by import path."""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from curriculum_ray.config import ConfigError, Spec
from curriculum_ray.data import NO_CONDITIONING, Conditioning
from curriculum_ray.extras import install_command
from curriculum_ray.models.condition import CaptionEmbedding, ConditionalSpec, drop_labels, model_conditioning
from curriculum_ray.models.named_code import imported_class, in_one_line

__all__ = [
    "DiffusersModel",
    "DiffusersSpec",
    "PythonSpec",
    "build_diffusers",
    "build_python",
    "example_condition",
]


class DiffusersSpec(ConditionalSpec):
    """A network of Hugging Face diffusers, which is imported only if needed."""

    kind: Literal["diffusers"] = "diffusers"
    """The network: diffusers."""

    class_name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9]*$")
    """UNet2DModel, DiTTransformer2DModel, UNet2DConditionModel, UNet1DModel, or one that takes the same inputs."""

    config: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the class. Channels, sizes and classes follow from the data if not given."""


class PythonSpec(Spec):
    """The user's own network. The class is called as Class(shape=…, conditioning=…, **config).

    shape is that of one item without the batch, conditioning a `Conditioning`. The module is called as
    module(x (B, *shape) float, noise_cond (B,) float in about 0 .. 1000, condition or None) -> (B, *shape).
    It must drop conditions in training itself, if classifier-free guidance is wanted.
    """

    kind: Literal["python"] = "python"
    """The network: python."""

    path: str = Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
    """Import path of the class, package.module.Class."""

    config: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the class."""

    conditional: bool | None = None
    """If false, the class gets `NO_CONDITIONING`, whatever the data have."""


def build_python(spec: PythonSpec, data_shape: tuple[int, ...], conditioning: Conditioning) -> nn.Module:
    """Build the user's network and try it on zeros; any failure raises a one-line `ConfigError`."""
    if spec.conditional and not conditioning:
        raise ConfigError(
            f"model.conditional needs data with classes or captions, but they have {conditioning}"
        )
    conditioning = NO_CONDITIONING if spec.conditional is False else conditioning
    factory = imported_class(spec.path, nn.Module, "torch.nn.Module", f"model.path {spec.path}")
    try:
        model: nn.Module = factory(shape=data_shape, conditioning=conditioning, **spec.config)
    except Exception as error:
        raise ConfigError(f"model.path {spec.path} cannot be built: {in_one_line(error)}") from None
    if not any(True for _ in model.parameters()):
        raise ConfigError(f"model.path {spec.path} must be a network with parameters, but it has none")
    try:
        model.conditioning = conditioning  # type: ignore[assignment]
    except AttributeError as error:
        raise ConfigError(
            f"model.path {spec.path} must allow its attribute conditioning to be set: {in_one_line(error)}"
        ) from None
    _try(model, data_shape, conditioning, f"model.path {spec.path}")
    return model


def build_diffusers(
    spec: DiffusersSpec, data_shape: tuple[int, ...], conditioning: Conditioning
) -> DiffusersModel:
    """Build the diffusers network and try it on zeros; any failure raises a one-line `ConfigError`."""
    name = f"model.class_name {spec.class_name}"
    try:
        import diffusers
    except ImportError:
        raise ConfigError(f"{name} needs the package diffusers: {install_command('diffusers')}") from None
    factory = getattr(diffusers, spec.class_name, None)
    if not (inspect.isclass(factory) and issubclass(factory, nn.Module)):
        raise ConfigError(f"{name} is not a network of diffusers {diffusers.__version__}")
    arguments = inspect.signature(factory.__init__).parameters
    unknown = sorted(key for key in spec.config if key not in arguments or key == "self")
    if unknown:
        raise ConfigError(
            f"model.config.{unknown[0]} is not an argument of {spec.class_name} (its value is "
            f"{spec.config[unknown[0]]!r})"
        )
    conditioning = model_conditioning(spec, conditioning)
    takes = inspect.signature(factory.forward).parameters
    if conditioning.kind == "class" and "class_labels" not in takes:
        raise ConfigError(f"{name} takes no classes: set model.conditional to false")
    if conditioning.length and "encoder_hidden_states" not in takes:
        raise ConfigError(f"{name} takes no captions: set model.conditional to false")
    config = {**_from_data(arguments, data_shape, conditioning, spec.config), **spec.config}
    try:
        network = factory(**config)
    except Exception as error:
        raise ConfigError(f"{name} cannot be built: {in_one_line(error)}") from None
    channels = getattr(network.config, "out_channels", None) or config.get("in_channels")
    if channels == 2 * data_shape[0]:
        raise ConfigError(
            f"model.config.out_channels must be {data_shape[0]}, since learned variances are not supported, "
            f"but got {channels}"
        )
    model = DiffusersModel(network, conditioning, spec.label_dropout)
    _try(model, data_shape, conditioning, name)
    return model


def _from_data(
    arguments: Any, data_shape: tuple[int, ...], conditioning: Conditioning, given: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments that follow from the data."""
    square = len(set(data_shape[1:])) == 1
    values: dict[str, Any] = {
        "in_channels": data_shape[0],
        "out_channels": data_shape[0],
        "sample_size": data_shape[1] if square and len(data_shape) > 1 else data_shape[1:],
    }
    # One more row for the null class, which DiT's own table (`num_embeds_ada_norm`) adds by itself.
    if conditioning.kind == "class":
        values["num_class_embeds"] = conditioning.size + 1
    values["num_embeds_ada_norm"] = conditioning.size if conditioning.kind == "class" else 1
    if "extra_in_channels" in arguments:
        # UNet1DModel: its Fourier features expect times in [0, 1], its positional ones timesteps like ours; a
        # first block without skip takes them as extra channels.
        values["time_embedding_type"] = "positional"
        settings = {key: argument.default for key, argument in arguments.items()} | values | given
        if settings["down_block_types"][0] == "DownBlock1DNoSkip":
            positional = settings["time_embedding_type"] == "positional"
            values["extra_in_channels"] = settings["block_out_channels"][0] if positional else 16
    return {key: value for key, value in values.items() if key in arguments}


class DiffusersModel(nn.Module):
    """A diffusers network called as ours: (x (B,*shape), noise_cond (B,), condition or None) -> (B,*shape).

    network: takes the item and `timestep`, and `class_labels` (B,) and `encoder_hidden_states` (B,S,E) if it
    has these arguments; it returns `sample`. Its table of classes has one more row, the null class. Its own
    label dropout, which DiT draws separately in each block, is replaced by ours. Captions are embedded by
    `CaptionEmbedding` in the channels of its cross-attention; a network that takes captions gets zeros if the
    data have none.
    """

    def __init__(self, network: nn.Module, conditioning: Conditioning, label_dropout: float) -> None:
        super().__init__()
        self.conditioning = conditioning
        self.network = network
        takes = inspect.signature(network.forward).parameters
        config: Any = network.config
        self.reads = config.cross_attention_dim if "encoder_hidden_states" in takes else None
        self.table_size = getattr(config, "num_embeds_ada_norm", None)
        self.captions: CaptionEmbedding | None = None
        self.label_dropout = label_dropout
        if conditioning.length and self.reads is not None:
            self.captions = CaptionEmbedding(conditioning, self.reads, label_dropout)
        for module in network.modules():
            if hasattr(module, "embedding_table") and hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0  # type: ignore[assignment]

    def forward(self, x: Tensor, noise_cond: Tensor, condition: Tensor | None = None) -> Tensor:
        """See the class."""
        more: dict[str, Tensor] = {}
        if condition is not None and not self.conditioning:
            raise ValueError("this network takes no condition, but got one")
        if self.conditioning.kind == "class":
            more["class_labels"] = drop_labels(
                condition, len(x), self.conditioning.size, self.label_dropout * self.training, x.device
            )
        elif self.table_size is not None:
            more["class_labels"] = torch.full((len(x),), self.table_size, device=x.device)
        if self.captions is not None:
            embedded = self.captions(condition, len(x))
            assert embedded.tokens_BSE is not None
            assert embedded.visible_BS is not None
            more["encoder_hidden_states"] = embedded.tokens_BSE
            more["encoder_attention_mask"] = embedded.visible_BS
        elif self.reads is not None:
            more["encoder_hidden_states"] = x.new_zeros(len(x), 1, self.reads)
        return self.network(x, noise_cond, **more).sample


def _try(model: nn.Module, data_shape: tuple[int, ...], conditioning: Conditioning, name: str) -> None:
    """Run two items of zeros forward, with and without condition; modes and random state are restored."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    x = torch.zeros(2, *data_shape, device=device)
    training = model.training
    try:
        for condition in (None, example_condition(conditioning, device=device)) if conditioning else (None,):
            words = f"of shape {data_shape}" if condition is None else f"with {conditioning}"
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                out = model.eval()(x, torch.tensor([0.0, 999.0], device=device), condition)
            _check_output(out, x, name)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{name} fails on items {words}: {in_one_line(error)}") from None
    finally:
        model.train(training)


def example_condition(
    conditioning: Conditioning, items: int = 2, device: torch.device | None = None
) -> Tensor:
    """A condition of so many items."""
    match conditioning.kind:
        case "tokens":
            return torch.ones(items, conditioning.length, dtype=torch.long, device=device)
        case "embedding":
            return torch.ones(items, conditioning.length, conditioning.size, device=device)
        case _:
            return torch.zeros(items, dtype=torch.long, device=device)


def _check_output(out: Any, x: Tensor, name: str) -> None:
    got = f"{out.dtype} {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
    if not isinstance(out, Tensor) or out.shape != x.shape or out.dtype != x.dtype:
        raise ConfigError(
            f"{name} must return {x.dtype} {tuple(x.shape)} for items of that shape, but got {got}"
        )
