"""Advice on how a prototxt uses BatchNorm: the table of rules, and the one function that asks them all.

The pattern that no rule has anything to say about: a Convolution or InnerProduct without bias, a BatchNorm that leaves
`use_global_stats` and `param {}` alone, a Scale with `bias_term: true`, and an activation, each in place or not.
"""

from __future__ import annotations

from pathlib import Path

from bnfold.advice import batchnorm, deploy, neighbours, weights
from bnfold.advice.draft import Draft, read_draft
from bnfold.advice.records import Finding, Rule
from bnfold.errors import UsageError
from bnfold.net import Net, require_net


def advise(prototxt: Path | str, net: Net | None = None) -> list[Finding]:
    """What is to be said about a prototxt, in the order of its layers.

    Args:
        prototxt: the path of the file, or its text.
        net: the loaded net if there are weights, for the rules about what was learned.

    Returns:
        Findings in the order of the file, those of one layer by the name of the rule.

    Raises:
        ModelError: the prototxt cannot be read.
        UsageError: an argument is of another type.

    Examples:
        >>> found = bnfold.advise("train_val.prototxt")
        >>> found[0].layer, found[0].rule, found[0].severity
        ('bn1', 'batchnorm-without-scale', 'warning')
    """
    if net is not None:
        require_net(net, "advise")
        if net.language != "Caffe":
            raise UsageError("advice is on a prototxt, and the net beside it is ONNX; give the one that it says")
    return findings(read_draft(prototxt, net))


def findings(draft: Draft) -> list[Finding]:
    """What the rules say about a draft."""
    by_key: dict[tuple[int, str, str], Finding] = {}
    for name, rule in RULES.items():
        for remark in rule.check(draft):
            written = remark.about
            # Both phases say the same of a layer that is in both.
            by_key[written.index, name, remark.message] = Finding(
                rule=name,
                layer=written.name,
                severity=remark.severity or rule.severity,
                message=remark.message,
                why=rule.why,
                instead=remark.instead or rule.instead,
                line=written.line,
            )
    return [by_key[key] for key in sorted(by_key)]


RULES: dict[str, Rule] = {
    "batchnorm-without-scale": Rule(
        neighbours.batchnorm_without_scale,
        "warning",
        why="Caffe's BatchNorm only normalises. Without the gamma and beta that batch normalisation is defined with, "
        "every channel has mean 0 and variance 1 at this place whatever the net would need there, and a ReLU "
        "behind it cuts off about half of each channel",
        instead='a layer of type "Scale" with `scale_param { bias_term: true }` behind it',
    ),
    "bias-before-batchnorm": Rule(
        neighbours.bias_before_batchnorm,
        "note",
        why="A constant per channel is part of the channel's mean, which training subtracts, so the bias has gradient "
        "0 and costs memory and time; the beta behind the BatchNorm does its work. In a net that is trained "
        "already, folding takes the bias in",
        instead="bias_term: false",
    ),
    "data-in-deploy": Rule(
        deploy.data_in_deploy,
        "warning",
        why="The net can only be run where the layer's source is, in batches of its size; who deploys it has samples "
        "of their own",
        instead='a layer of type "Input"',
    ),
    "dropout-before-batchnorm": Rule(
        neighbours.dropout_before_batchnorm,
        "note",
        why="In training, Dropout makes up for what it drops by scaling the rest: the mean stays, but the variance "
        "grows. The BatchNorm stores that larger variance and divides by it at TEST too, where nothing is dropped",
        instead="put the Dropout behind the last BatchNorm, or leave it out",
    ),
    "eps-far-from-default": Rule(
        batchnorm.eps_far_from_default,
        "note",
        why="A large eps damps channels whose variance is not far above it. A small one blows up a channel that is "
        "nearly constant, and NVCaffe computes with 1e-5 where less is written, since cuDNN once took no less",
        instead="leave eps out; for a net that is trained already, keep what it was trained with",
    ),
    "global-stats-false": Rule(
        batchnorm.global_stats_false,
        "error",
        why="At TEST the layer still normalises by the batch at hand: the answer for one sample depends on the "
        "samples beside it, the stored statistics are never used, and nothing can be folded",
        instead="leave use_global_stats out: the phase decides, batch statistics for TRAIN and stored ones for TEST",
    ),
    "global-stats-true-in-training": Rule(
        batchnorm.global_stats_true_in_training,
        "warning",
        why="Training then normalises by the stored statistics and never updates them. In a new net they are 0, and "
        "the layer multiplies by 316; it is right only for fine-tuning with BatchNorm frozen on purpose",
        instead="leave use_global_stats out: the phase decides, batch statistics for TRAIN and stored ones for TEST",
    ),
    "in-place-read-elsewhere": Rule(
        neighbours.in_place_read_elsewhere,
        "error",
        why="Only the order in the file tells which of the two values a reader gets, and Caffe refuses such a net: it "
        'inserts a Split for the two readers, and then the layer is no more in place ("produced by multiple '
        'sources")',
        instead="a top of its own for the layer",
    ),
    "in-place-spoils-gradient": Rule(
        neighbours.in_place_spoils_gradient,
        "error",
        why="Caffe computes that gradient from the values in memory, which by then are those of this layer: training "
        "goes on with a wrong gradient and says nothing",
        instead="a top of its own for the layer",
    ),
    "layers-of-one-name": Rule(
        weights.layers_of_one_name,
        "warning",
        why="Caffe finds the weights of a layer by its name and gives all that is stored under it to the first layer "
        "that is called so; the others keep what their fillers made, and training goes on from there",
        instead="a name of its own for each layer",
    ),
    "loss-in-deploy": Rule(
        deploy.loss_in_deploy,
        "warning",
        why="It needs labels, which do not exist in deployment",
        instead="Softmax for SoftmaxWithLoss, Sigmoid for SigmoidCrossEntropyLoss; other losses and metrics have no "
        "counterpart and are left out",
    ),
    "lr-mult-needless": Rule(
        batchnorm.lr_mult_needless,
        "note",
        why="Since 2016, before its release 1.0, Caffe keeps the solver away from the statistics without "
        "being told. Only older Caffes need the three lines",
        instead="leave the `param {}` out",
    ),
    "lr-mult-wrong": Rule(
        batchnorm.lr_mult_wrong,
        "error",
        why="Mean, variance and factor are measured and not learned. A solver that may change them lets weight decay "
        "pull them to 0",
        instead="leave the `param {}` out",
    ),
    "mixed-eps": Rule(
        batchnorm.mixed_eps,
        "note",
        why="Where parts of a net come from different places this is right, and must be kept; otherwise it is a slip "
        "that shows in channels of small variance only",
        instead="one eps for the whole net, or a comment that says why not",
    ),
    "phase-twins": Rule(
        batchnorm.phase_twins,
        "note",
        why="Without use_global_stats a BatchNorm does what the twins do: statistics of the batch in the TRAIN net, "
        "stored ones in the TEST net. Two layers have to be kept equal by hand, their name above all",
        instead="one layer, without `include` and without use_global_stats",
    ),
    "scale-without-bias": Rule(
        neighbours.scale_without_bias,
        "note",
        why="Batch normalisation is defined with a gamma and a beta; bias_term is false unless it is given, so this "
        "is easily forgotten, and every channel keeps mean 0",
        instead="scale_param { bias_term: true }",
    ),
    "shared-statistics": Rule(
        batchnorm.shared_statistics,
        "warning",
        why="Each of the layers normalises by its own batch in training, and all of them add to the same moving "
        "averages: at TEST each is normalised by a mixture that none has seen. If the factor is not shared along "
        "with mean and variance, the averages are not even divided by the right number",
        instead="share the weights of the linear layers, and let each BatchNorm keep statistics of its own",
    ),
    "untrained-statistics": Rule(
        weights.untrained_statistics,
        "warning",
        why="No data has these statistics, so the layer was never trained, or its statistics were lost or are already "
        "folded into other layers",
        instead="use a caffemodel that was trained with this layer; if it was folded, take the layer out",
    ),
    "zero-scale-factor": Rule(
        weights.zero_scale_factor,
        "error",
        why="Mean and variance are stored as sums, and the factor is what they are divided by. It is 0 before the "
        "first training step, and Caffe then computes with mean 0 and variance 0",
        instead="use a caffemodel that was trained with this layer",
    ),
}
