"""Every method in one line: what it is called, where it comes from, what it needs."""

from collections.abc import Iterable
from typing import NamedTuple

from experiments.tools.tables import align


class Method(NamedTuple):
    """A line of the registry."""

    name: str  # on the command line, where it has one there
    kind: str  # scheme, part, loss, sampler, procedure, weights or difficulty
    family: str
    function: str  # in `weighting`, unless it starts with `experiments.`
    source: str
    needs: str  # what it reads, separated by commas; "clean" is a clean batch, "history" its own
    scale: str  # of its weights
    summary: str


KINDS = {
    "scheme": "weighting schemes: per-batch weights in the training step",
    "part": "parts to chain behind a scheme",
    "loss": "losses: their gradients weight examples by themselves",
    "sampler": "samplers: which examples are drawn",
    "procedure": "procedures: how training runs as a whole",
    "weights": "weights of a whole training set, computed once: arrays in, arrays out",
    "difficulty": "difficulty measures: one number per example, larger is harder",
}

_TABLE = """
uniform | scheme | none | uniform | all four papers | - | mean one | equal weights: empirical risk minimization (ERM)
proportion | scheme | class | inverse_class_frequency | ren2018 4.1, santiago2021 (bCE) | labels, counts | mean one over the set | inverse class frequency
random | scheme | random | random | ren2018 Eq. 16 | - | mean one | rectified Gaussian, fresh every step
focal | scheme | loss | focal | Lin 2017 Eq. 4 | logits, labels | mean one | (1 - p)^gamma, constant in the backward pass
self_paced | scheme | loss | self_paced | Kumar 2010 | losses | mean one | keeps losses below a threshold that grows every epoch
hard_mining | scheme | loss | hard_mining | ren2018 4.1 | losses, labels | mean one | the minority, and as many of the majority's highest losses
top_losses | scheme | loss | top_losses | Shrivastava 2016 | losses | mean one | keeps a fraction of the batch with the highest losses
low | scheme | gradient | low | santiago2021 Eq. 9 | logits, labels | mean one | LOW: the weights that decrease the loss most
low_osqp | scheme | gradient | low | santiago2021 Eq. 9 | logits, labels | mean one | LOW by jaxopt's OSQP
low_last_layer | scheme | gradient | low | santiago2021 Eq. 8 | logits, labels, features | mean one | LOW with gradients of the last layer
low_parameters | scheme | gradient | low | santiago2021 Eq. 8 | jacobian | mean one | LOW with gradients of all parameters
low_batch_mean | scheme | gradient | low | santiago2021, released code | logits, labels | mean one | LOW with the released code's scale of the gradients
lookahead | scheme | meta | lookahead | ren2018 Alg. 1 | jacobian, clean | mean one | one lookahead step on a clean batch, fast form
lookahead_kept | scheme | meta | lookahead | ren2018 Alg. 1 | jacobian, clean | mean one | approximation: the clean gradient is kept for some steps
lookahead_last_layer | scheme | meta | lookahead | ren2018 Alg. 1 | jacobian, clean | mean one | approximation: the last layer's gradients alone
lookahead_unrolled | scheme | meta | lookahead_unrolled | ren2018 Alg. 1 | losses at other parameters, clean | mean one | differentiates through virtual SGD steps
class_power | scheme | class | class_power | DisAlign (Zhang 2021), zhou2022 2.3 (G-RW) | labels, counts | mean one over the set | a power of inverse frequency: 0 equal, 1/2 square root, 1 inverse
effective_number | scheme | class | effective_number | Cui 2019 Eq. 2 | labels, counts | mean one over the set | inverse effective number of samples
class_weights | scheme | class | class_weights | xu2021 Figs. 2-3, zhou2022 Figs. 4-6 | labels | mean one over the set | weights of the classes by hand
oracle_noise | scheme | class | oracle_noise | ren2018 4.2 (WEIGHTED) | labels, noise matrix | mean one | P(the label is clean) under known noise
small_losses | scheme | loss | small_losses | Han 2018, Wang 2021 | losses | mean one | keeps the lowest losses, a fraction that falls to 1 - noise rate
superloss | scheme | loss | superloss | Castells 2020 | losses | mean one | closed-form confidence by the Lambert W function
gradient_harmonized | scheme | loss | gradient_harmonized | Li 2019 (GHM-C) | logits, labels, history | mean one | inverse density of the gradient norm
curriculum | scheme | curriculum | curriculum | Bengio 2009, Platanios 2019 | table | mean one | the easiest fraction of the training set, growing
mentornet_curriculum | scheme | curriculum | mentornet_curriculum | Jiang 2018 | losses | mean one | MentorNet's predefined curriculum: drops losses above a moving quantile
paced_self_paced | scheme | curriculum | paced_self_paced | Kumar 2010, own pace | losses | mean one | self-paced from the first epoch's median loss
cvar | scheme | robust | cvar | Rockafellar 2000 | losses | mean one | worst case over weights up to 1 / alpha
tilted | scheme | robust | tilted | Li 2021 (TERM) | losses | mean one | exp(t loss): robust in KL divergence; negative t trusts small losses
chi_square_dro | scheme | robust | chi_square_dro | Namkoong 2017 | losses | mean one | robust in chi-square divergence: LOW's program on losses
group_dro | scheme | robust | group_dro | Sagawa 2020 Alg. 1 | losses, labels or groups, history | mean one | groups (here the classes) with large losses gain
exponential_margin | scheme | margin | exponential_margin | xu2021 Sec. 2, zhou2022 Prop. 5 | logits, labels | mean one | exp(-margin), the exponential loss's dual weights
inverse_margin | scheme | margin | inverse_margin | zhou2022 4.1 | logits, labels | mean one | 1 / margin of the current network, bounded
reference_inverse_margin | scheme | margin | inverse_margin_weights | xu2021 Fig. 2, zhou2022 Fig. 4 | table | mean one over the set | 1 / margin of a reference network, in [1/M, M]
small_margins | scheme | margin | small_margin_weights | zhou2022 Fig. 5b | table | mean one over the set | v on the smallest margins of a reference network
known_noise | scheme | table | known_examples_weights | zhou2022 Figs. 4e-f, 5a | table | mean one over the set | v on the examples known to be noisy
jtt | scheme | table | jtt_weights | Liu 2021 Alg. 1 | table | mean one over the set | Just Train Twice: a first network's errors gain
difficulty | scheme | difficulty | difficulty_weights | zhou2022 Secs. 2.1, 4 | table | mean one over the set, in [b, B] | a monotone map of K-fold generalization errors
per_example | scheme | table | per_example | xu2021 Sec. 2 | table | mean one over the set | fixed weights by position in the training set
inverse_propensity | scheme | shift | inverse_propensity | Horvitz 1952, xu2021 Sec. 1 | table | mean one | one over the probability of being observed
active_bias | scheme | history | active_bias | Chang 2017 | logits, labels, history | mean one | uncertain past predictions gain (variance)
active_bias_threshold | scheme | history | active_bias | Chang 2017 | logits, labels, history | mean one | uncertain past predictions gain (closeness to the threshold)
loss_rank | scheme | history | loss_rank | Loshchilov 2015 | losses, history | mean one | by the rank of the latest loss
infobatch | scheme | history | infobatch | Qin 2024 | losses, history | one in expectation | drops easy examples at random and scales up the rest
importance_sampling | scheme | sampling | importance_sampling | Katharopoulos 2018 Alg. 1 | logits, labels | one in expectation | draws by gradient norm with unbiased weights, behind a variance gate
meta_weight_net | scheme | meta | meta_weight_net | Shu 2019 | losses, jacobian, clean | mean one | a network of the loss, learned on clean examples
cmw_net | scheme | meta | cmw_net | Shu 2022 | losses, labels, jacobian, counts, clean | mean one | the same, with an output for small, middling and large classes
joint | scheme | learned | joint_weighting | xu2021 Eq. 4 | inputs, losses | bounded | a bounded function of the input, trained with the network on one objective
mentornet | scheme | learned | mentornet | Jiang 2018 | losses, labels, history | mean one | a mentor network of the loss's history, trained before
rho_loss | scheme | selection | rho_loss | Mindermann 2022 | losses, table | mean one | keeps what is hard now but not for a network trained on clean data
batch_alignment | scheme | selection | batch_alignment | santiago2021 Eqs. 4-8 for a batch | jacobian | mean one | LOW with cross terms: gradients that agree with the batch gain
gradient_alignment | scheme | selection | gradient_alignment | Wang 2024 (GREATS) | jacobian, clean | mean one | greedy choice by effect on clean examples, less redundancy
normalize | part | - | normalize_mean | - | - | mean one | scales to mean one
clip | part | - | clip | xu2021 Sec. 2, zhou2022 Thm. 1 | - | bounded | bounds the weights
temper | part | - | temper | - | - | mean one | raises weights to a power
mix | part | - | mix_with_uniform | - | - | unchanged | mixes with uniform weights
ema | part | - | ema | - | history | unchanged | averages each example's weight over time
warm_up | part | - | warm_up | - | - | unchanged | uniform at first, the scheme after some steps
deferred | part | - | deferred | Cao 2019 (DRW) | - | unchanged | uniform until a share of the steps, then the scheme
record_history | part | - | record_history | Toneva 2019 | losses, logits, labels, history | unchanged | records losses, predictions and forgetting events
cross_entropy | loss | basic | losses.cross_entropy | all four papers | logits, labels | - | softmax cross-entropy
focal | loss | basic | losses.focal | Lin 2017 | logits, labels | - | focal loss, differentiated through its factor
logistic | loss | basic | losses.logistic | xu2021 Sec. 2 | score, labels | - | logistic loss of the margin
exponential | loss | basic | losses.exponential | xu2021 Sec. 2 | score, labels | - | exponential loss of the margin
generalized_cross_entropy | loss | robust | losses.generalized_cross_entropy | Zhang 2018 | logits, labels | - | (1 - p^q) / q, between cross-entropy (q = 0) and 1 - p (q = 1)
truncated_generalized_cross_entropy | loss | robust | losses.truncated_generalized_cross_entropy | Zhang 2018 | logits, labels | - | the same, constant where p <= threshold
truncated_cross_entropy | loss | robust | losses.truncated_cross_entropy | Wang 2021 (T-CE) | logits, labels | - | cross-entropy, zero above a cutoff
smoothed_cross_entropy | loss | soft target | losses.smoothed_cross_entropy | Szegedy 2016 | logits, labels | - | label smoothing
bootstrap_soft | loss | soft target | losses.bootstrap_soft | Reed 2015, ren2018 4.2 | logits, labels | - | target: part label, part prediction
bootstrap_hard | loss | soft target | losses.bootstrap_hard | Reed 2015, ren2018 4.2 | logits, labels | - | target: part label, part predicted class
distillation | loss | soft target | losses.distillation | Hinton 2015, Li 2017 | logits, labels, table | - | the label, and a teacher's tempered prediction
balanced_cross_entropy | loss | class | losses.balanced_cross_entropy | santiago2021 4 (bCE) | logits, labels, counts | - | times N / (C n_c): inverse class frequency inside the loss, where other schemes see it
logit_adjusted | loss | class | losses.logit_adjusted | Menon 2021, Ren 2020 | logits, labels, counts | - | adds tau log prior to the logits (tau = 1: balanced softmax)
class_dependent_temperatures | loss | class | losses.class_dependent_temperatures | Ye 2020 (CDT) | logits, labels, counts | - | divides each logit by (n_max / n_c)^gamma
vector_scaling | loss | class | losses.vector_scaling | Kini 2021 (VS) | logits, labels, counts | - | multiplies and shifts the logits by class
ldam | loss | class | losses.ldam | Cao 2019 (LDAM) | logits, labels, counts | - | the label must win by a margin that grows as n_c^(-1/4)
polynomial_tailed | loss | tail | losses.polynomial_tailed | Wang 2022 | logits or score, labels | - | polynomial tail, on which importance weights keep their effect
forward_corrected_cross_entropy | loss | known noise | losses.forward_corrected_cross_entropy | Patrini 2017 | logits, labels, noise matrix | - | cross-entropy of the noisy label
backward_corrected_cross_entropy | loss | known noise | losses.backward_corrected_cross_entropy | Patrini 2017, Natarajan 2013 | logits, labels, noise matrix | - | unbiased for the clean cross-entropy; may be negative
class_balanced | sampler | class | class_balanced_indices | ren2018 4.1 (RESAMPLE) | labels | - | as many examples of every class in each batch
class_sampling | sampler | class | example_sampling_probabilities | Kang 2020 | labels, counts | - | a power of class frequency: 1 as is, 1/2 square root, 0 balanced
importance_selector | sampler | selection | importance_selector | Katharopoulos 2018 | logits, labels | one in expectation | which of a large batch to train on, unbiased
top_selector | sampler | selection | top_selector | Mindermann 2022 | any score | one | which of a large batch to train on, by the highest scores
loss_rank_probabilities | sampler | history | loss_rank_probabilities | Loshchilov 2015 | losses of the set | sum one | probabilities by the rank of the latest loss
noise_layer | procedure | known noise | with_noise_layer | Goldberger 2017, ren2018 4.2 (S-MODEL) | logits, labels | - | a matrix of the noise trained with the network, from the identity
noise_layer_confusion | procedure | known noise | confusion_transition | Goldberger 2017, ren2018 4.2 (S-MODEL +CONF) | logits, labels, a reference network | - | the same, from a reference network's confusion matrix
co_teaching | procedure | two networks | make_co_teaching_step | Han 2018 Alg. 1 | two networks | the scheme's | either network's weights come from the other
mentor training | procedure | learned | train_mentor | Jiang 2018 | features, targets | - | teaches a mentor network a curriculum, or who is clean
selective step | procedure | selection | make_selective_train_step | Katharopoulos 2018, Mindermann 2022 | a large batch | mean over the selected | scores a large batch by a forward pass, trains on a part
fine-tuning | procedure | clean data | experiments.training.program | ren2018 4.2 (+FT) | clean set | - | further steps on the clean set: `fine_tune_steps`
early stopping | procedure | validation | experiments.reporting.method_rows | ren2018 4.2 (+ES) | validation set | - | the evaluation that is best on validation data
clean only | procedure | clean data | experiments.training.program | ren2018 4.2 (CLEAN ONLY) | clean set | - | `num_steps` of 0 and `fine_tune_steps`
clean_label_probability | weights | class | clean_label_probability | ren2018 4.2 | noise matrix, priors | probability | P(clean given the label), one per class
cvar_weights | weights | robust | cvar_weights | Rockafellar 2000 | losses | mean one | the worst weights up to 1 / alpha
greedy_alignment_weights | weights | selection | greedy_alignment_weights | Wang 2024 (GREATS) | alignments, Gram matrix | mean one | the greedy choice of a subset
low_weights | weights | gradient | low_weights | santiago2021 Eq. 9 | gradient norms | mean one | LOW's quadratic program
lookahead_weights | weights | meta | lookahead_weights | ren2018 Eq. 9 | scores | mean one | rectified and normalized meta-gradients
inverse_margin_weights | weights | margin | inverse_margin_weights | xu2021 Fig. 2, zhou2022 Fig. 4 | margins | mean one, in [1/M, M] | one over the margin
kl_matched_weights | weights | margin | kl_matched_weights | xu2021 Prop. 1 | dual p* | mean one, above a floor | closest to the max-margin dual in KL divergence
small_margin_weights | weights | margin | small_margin_weights | zhou2022 Fig. 5b | margins | mean one | v on the smallest-margin quantile
known_examples_weights | weights | table | known_examples_weights | zhou2022 Figs. 4e-f, 5a | marks | mean one | v on the marked examples
jtt_weights | weights | table | jtt_weights | Liu 2021 Alg. 1 | errors | mean one | a first network's errors gain
difficulty_weights | weights | difficulty | difficulty_weights | zhou2022 Secs. 2.1, 4 | a difficulty | mean one, in [b, B] | power, exponential, rank or inverse of a difficulty
adaboost_weights | weights | boosting | adaboost_weights | Freund 1997, Zhu 2009 (SAMME) | errors | mean one | one round of AdaBoost
class_prior_ratio | weights | shift | class_prior_ratio | xu2021 4.2 | priors | mean one on the source | target over source priors
classifier_ratio | weights | shift | classifier_ratio | Bickel 2009 | two samples | mean one | odds of a probabilistic classifier
ulsif_ratio | weights | shift | ulsif_ratio | Kanamori 2009 | two samples | mean one | least-squares density ratio
kliep_ratio | weights | shift | kliep_ratio | Sugiyama 2008 | two samples | mean one | maximum-likelihood density ratio
bbse_class_weights | weights | shift | bbse_class_weights | Lipton 2018 | predictions | mean one on the source | label shift by a confusion matrix
em_class_weights | weights | shift | em_class_weights | Saerens 2002 | probabilities, priors | mean one on the source | label shift by expectation maximization
inverse_propensity_weights | weights | shift | inverse_propensity_weights | Horvitz 1952 | propensities | mean one | one over the propensity, with a floor
loss | difficulty | one network | losses.cross_entropy | zhou2022 2.3 | logits, labels | - | the loss
error_probability | difficulty | one network | error_probability | zhou2022 2.3 | logits, labels | [0, 1] | 1 - p of the label, focal's measure
logit_gradient_norm | difficulty | one network | logit_gradient_norm | santiago2021 3.2 | logits, labels | - | norm of the gradient by the logits, LOW's proxy
last_layer_gradient_norm | difficulty | one network | last_layer_gradient_norm | santiago2021 3.2 | logits, labels, features | - | norm of the gradient by the last layer
gradient_norm | difficulty | one network | gradient_norm | santiago2021 Eq. 8 | parameters | - | norm of the gradient by all parameters
class_rarity | difficulty | class | class_rarity | zhou2022 2.3 | labels, counts | - | one over the class's size
negative_margin | difficulty | one network | negative_margin | zhou2022 2.1 | logits, labels | - | largest other logit minus the label's
prediction_depth | difficulty | one network | prediction_depth | Baldock 2021 | features of every layer | 0 to layers | first layer from which nearest neighbours agree with the network
el2n | difficulty | several networks | el2n | Paul 2021 | logits, labels | [0, sqrt 2] | mean norm of softmax minus one-hot
grand | difficulty | several networks | grand | Paul 2021 | parameters | - | mean gradient norm over initializations
negative_average_margin | difficulty | several networks | negative_average_margin | zhou2022 Prop. 4, Pleiss 2020 (AUM) | logits, labels | - | average margin over networks or epochs, sign turned
margin_variance | difficulty | several networks | margin_variance | zhou2022 Prop. 4 | logits, labels | - | variance of the margin
predictive_variance | difficulty | several networks | predictive_variance | zhou2022 Eq. 7 | predictions | - | epistemic uncertainty
predictive_entropy | difficulty | several networks | predictive_entropy | - | logits | nats | total uncertainty
expected_entropy | difficulty | several networks | expected_entropy | - | logits | nats | aleatoric uncertainty
mutual_information | difficulty | several networks | mutual_information | Houlsby 2011 (BALD) | logits | nats | how far the networks disagree
variance_of_gradients | difficulty | checkpoints | variance_of_gradients | Agarwal 2022 (VoG) | input gradients, labels | z-score in the class | how much the input gradient changes along training
gradient-norm variance | difficulty | checkpoints | variance_over_networks | zhou2022 3.5 | gradient norms | - | variance of the gradient norm along training
forgetting_events | difficulty | checkpoints | forgetting_events | Toneva 2019 | correctness history | 0 to T | falls from right to wrong; never learned is T
generalization_error | difficulty | held-out networks | generalization_error | zhou2022 Eq. 2 | K-fold predictions | - | mean loss of networks that did not see the example
bias | difficulty | held-out networks | cross_entropy_bias_variance | zhou2022 Eq. 2 | K-fold predictions | - | loss of their central prediction
variance | difficulty | held-out networks | cross_entropy_bias_variance | zhou2022 Eq. 2 | K-fold predictions | - | their spread around it
"""


def _read(table: str) -> tuple[Method, ...]:
    return tuple(
        Method(*(cell.strip() for cell in line.split(" | ", 7)))
        for line in table.strip().splitlines()
    )


METHODS = _read(_TABLE)


def find(name: str, kinds: Iterable[str]) -> Method:
    """The line of that name and kind."""
    return next(m for m in METHODS if m.name == name and m.kind in kinds)


def as_text() -> str:
    """The registry for a terminal."""
    header = ["method", "family", "source", "needs", "scale", "what it does"]
    tables = []
    for kind, title in KINDS.items():
        rows = [[m.name, m.family, m.source, m.needs, m.scale, m.summary] for m in _of_kind(kind)]
        if rows:
            tables.append(f"{title}\n\n{align([header, *rows], numbers=False)}")
    return "\n\n".join(tables) + "\n"


def as_markdown() -> str:
    """The registry as a page of the documentation."""
    lines = [
        "# Methods",
        "",
        "Written by `python -m experiments methods --markdown`, from `experiments/methods.py`.",
        "`function` is a name in `weighting`; `method` is its name on the command line, if it has",
        "one there (`python -m experiments list` shows the values it takes). Needs: *clean* is a",
        "small trusted batch, *jacobian* the linearized losses, *counts* the class counts,",
        "*history* per-example state kept by data-set index, *table* an array [N] given beforehand.",
    ]
    for kind, title in KINDS.items():
        rows = _of_kind(kind)
        if not rows:
            continue
        header = ["method", "function", "family", "source", "needs", "scale", "what it does"]
        lines += ["", f"## {title[0].upper()}{title[1:]}", ""]
        lines += [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
        lines += [
            f"| {m.name} | `{m.function}` | {m.family} | {m.source} | {m.needs} | {m.scale} "
            f"| {m.summary} |"
            for m in rows
        ]
    return "\n".join(lines) + "\n"


def _of_kind(kind: str) -> list[Method]:
    return [method for method in METHODS if method.kind == kind]
