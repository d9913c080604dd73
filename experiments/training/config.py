"""The configuration of a training run: frozen, typed, checked before any work starts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from experiments.data import TaskConfig
from experiments.data.augmentation import parse_augmentation
from experiments.methods import registry
from experiments.methods.specifications import (
    LossSpec,
    ProcedureSpec,
    SchemeSpec,
    parse_loss,
    parse_procedure,
    parse_scheme,
)
from experiments.networks.models import make_model
from experiments.tools.grammar import split_chain
from experiments.training.schedule import parse_schedule

SAMPLERS = ("shuffled", *registry.SAMPLERS)


@dataclass(frozen=True)
class RunConfig:
    """One way of training, to be run with several seeds."""

    task: TaskConfig = field(default_factory=TaskConfig)
    """The data."""
    model: str = "mlp"
    """linear, mlp[:SIZES], mlp_bn[:SIZES], lenet5, ren2018_net, small_cnn, resnet32, wrn28_2,
    wrn28_10, densenet_bc or densenet161; or FILE.py:FUNCTION of your own (docs/extending.md)."""
    pretrained: str | None = None
    """File with torchvision's ImageNet weights to start from; for densenet161."""
    loss: str = "cross_entropy"
    """NAME[:VALUE...][:KEY=VALUE...], e.g. focal:2 or focal:gamma=2; for two classes also logistic
    or exponential (see `list`); or FILE.py:FUNCTION of your own."""
    weighting: str = "uniform"
    """NAME[:VALUE...][:KEY=VALUE...], several joined by + to a chain, e.g. low:0.1:solver=osqp or
    lookahead+clip:0:5; a NAME may be FILE.py:FUNCTION of your own (docs/extending.md)."""
    procedure: str = "plain"
    """plain, with_noise_layer[:start=confusion] (S-model), or make_co_teaching_step (two networks
    weight each other's examples)."""
    sampler: str = "shuffled"
    """shuffled, or class_balanced_indices (RESAMPLE)."""
    learning_rate: float = 0.03
    """Learning rate of SGD, at the start."""
    schedule: str = "constant"
    """constant, or drops:STEP[,STEP...][:FACTOR] of the learning rate (factor 0.1)."""
    momentum: float = 0.9
    """Momentum of SGD; 0 for none."""
    nesterov: bool = False
    """Whether the momentum is Nesterov's."""
    weight_decay: float = 0.0
    """Coefficient of the parameters in the gradient (l2)."""
    augmentation: str = "none"
    """Changes of the images of every batch, joined by +, such as crop:4+flip; see `list`."""
    batch_size: int = 64
    """Examples per step."""
    clean_batch_size: int = 50
    """Clean examples per step, at most all of them; for schemes that use a clean set."""
    num_steps: int = 1000
    """Training steps."""
    reference_steps: int = 300
    """Steps of the networks trained beforehand, for methods that start from one."""
    reference_learning_rate: float = 0.01
    """Learning rate of the networks trained beforehand."""
    fine_tune_steps: int = 0
    """Further steps, unweighted, on the clean set alone."""
    fine_tune_learning_rate: float | None = None
    """Learning rate of the fine-tuning; by default that of the training."""
    num_evals: int = 20
    """Evaluations, evenly spaced; must divide the number of steps."""
    seeds: int = 5
    """Number of seeds; a seed sets data, corruption, initialization and batches."""
    first_seed: int = 0
    """The first of the seeds, which are consecutive; a run may so be shared out over machines."""

    def __post_init__(self):
        parse_scheme(self.weighting)
        parse_loss(self.loss)
        make_model(self.model, 2)
        parse_schedule(self.schedule)
        parse_augmentation(self.augmentation)
        if self.pretrained is not None and (self.model, self.procedure) != ("densenet161", "plain"):
            raise ValueError(
                "pretrained weights are for model densenet161 with procedure plain; "
                f"got {self.model!r} with {self.procedure!r}"
            )
        parse_procedure(self.procedure)
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {SAMPLERS}, got {self.sampler!r}")
        for name, low, high in (
            ("learning_rate", 0.0, float("inf")),
            ("weight_decay", 0.0, float("inf")),
            ("momentum", 0.0, 1.0),
            ("reference_learning_rate", 0.0, float("inf")),
            ("fine_tune_learning_rate", 0.0, float("inf")),
        ):
            value = getattr(self, name)
            if value is not None and not (low <= value < high):
                raise ValueError(f"{name} must lie in [{low:g}, {high:g}), got {value}")
        for name in ("batch_size", "clean_batch_size", "num_evals", "seeds", "reference_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_steps", "fine_tune_steps", "first_seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.num_steps + self.fine_tune_steps == 0:
            raise ValueError("num_steps and fine_tune_steps are both 0: there is nothing to train")
        if self.num_steps % self.num_evals:
            raise ValueError(
                f"num_evals={self.num_evals} must divide num_steps={self.num_steps}, "
                "so that all evaluations are equally far apart"
            )
        if (self.scheme.needs_clean or self.fine_tune_steps) and self.task.num_clean == 0:
            what = f"weighting {self.weighting!r}" if self.scheme.needs_clean else "fine-tuning"
            raise ValueError(f"{what} needs a clean set: give the task num_clean > 0")

    @property
    def label(self) -> str:
        """The weighting as figures call it: files of one's own without their folders."""
        return "+".join(part.rpartition("/")[2] for part in split_chain(self.weighting))

    @property
    def scheme(self) -> SchemeSpec:
        """The parsed weighting."""
        return parse_scheme(self.weighting)

    @property
    def loss_spec(self) -> LossSpec:
        """The parsed loss."""
        return parse_loss(self.loss)

    @property
    def procedure_spec(self) -> ProcedureSpec:
        """The parsed procedure."""
        return parse_procedure(self.procedure)

    @property
    def seed_numbers(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def references(self) -> set[str]:
        """What must be known before training, see `context.REFERENCES`."""
        specs = (self.scheme, self.loss_spec, self.procedure_spec)
        return {name for spec in specs for name in spec.references}


# What may differ between configurations that are trained together, in one compiled program.
TRACED = ("learning_rate", "weight_decay", "fine_tune_learning_rate", "weighting", "loss")


def check_one_program(configs: Sequence[RunConfig]) -> None:
    """Refuses configurations that cannot share one compiled program."""
    if not configs:
        raise ValueError("no configuration was given")
    first = configs[0]
    fixed = [name for name in asdict(first) if name not in TRACED]
    for config in configs[1:]:
        for name in fixed:
            if getattr(config, name) != getattr(first, name):
                raise ValueError(
                    f"configurations that train together may differ in {', '.join(TRACED)} only; "
                    f"these differ in {name}"
                )
        for what, mine, other in (
            ("scheme", config.scheme, first.scheme),
            ("loss", config.loss_spec, first.loss_spec),
        ):
            if mine.fixed != other.fixed:
                raise ValueError(
                    f"configurations that train together need one {what} with different values; "
                    f"got {first.weighting!r} with {first.loss!r}, and {config.weighting!r} with "
                    f"{config.loss!r}"
                )
