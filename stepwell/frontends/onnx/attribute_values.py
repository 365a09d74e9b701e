"""The words that an attribute may be, by version: schemas say it in prose only.

    allowed_words("", "Pad", 18, "mode")     # constant, reflect, edge: wrap came with 19"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Words = tuple[str, ...]
Steps = Sequence[tuple[int, Words]]  # opset -> what is allowed from it on


def _always(*words: str) -> Steps:
    return ((1, words),)


_LOSS = _always("none", "sum", "mean")
_POST_TRANSFORM = _always("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_KERNEL = _always("LINEAR", "POLY", "RBF", "SIGMOID")
_DIRECTIONS = ("forward", "reverse", "bidirectional")
_ROUND_MODE = _always("up", "down", "nearest")
_BLOCKS = _always("DCR", "CRD")
_SCATTER = (1, ("none", "add", "mul")), (18, ("none", "add", "mul", "max", "min"))
_UPSAMPLE = (1, ("nearest", "bilinear")), (7, ("nearest", "linear"))
_RESIZE = (10, ("nearest", "linear")), (11, ("nearest", "linear", "cubic"))
_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")
_AUTO_PAD = _always("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

_WORDS: Mapping[tuple[str, str], Steps] = {
    **{(op_type, "auto_pad"): _AUTO_PAD
       for op_type in ("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool", "QLinearConv")},
    **{(op_type, "direction"): _always(*_DIRECTIONS) for op_type in ("RNN", "LSTM")},
    ("GRU", "direction"): ((1, ("foward", *_DIRECTIONS)), (3, _DIRECTIONS)),  # so its first schema spells it
    ("BitShift", "direction"): _always("LEFT", "RIGHT"),
    ("Cast", "round_mode"): _ROUND_MODE,
    ("CastLike", "round_mode"): _ROUND_MODE,
    ("CausalConvWithState", "activation"): _always("none", "silu", "swish"),
    ("DepthToSpace", "mode"): _BLOCKS,
    ("Gelu", "approximate"): _always("none", "tanh"),
    ("GridSample", "mode"): ((16, ("bilinear", "nearest", "bicubic")), (20, ("linear", "nearest", "cubic"))),
    ("GridSample", "padding_mode"): _always("zeros", "border", "reflection"),
    ("ImageDecoder", "pixel_format"): _always("RGB", "BGR", "Grayscale"),
    ("LinearAttention", "update_rule"): _always("linear", "gated", "delta", "gated_delta"),
    ("NegativeLogLikelihoodLoss", "reduction"): _LOSS,
    ("Pad", "mode"): ((1, ("constant", "reflect", "edge")), (19, ("constant", "reflect", "edge", "wrap"))),
    ("Resize", "mode"): _RESIZE,
    ("Resize", "coordinate_transformation_mode"): (
        (11, (*_COORDINATES, "tf_half_pixel_for_nn")), (13, _COORDINATES), (19, (*_COORDINATES, "half_pixel_symmetric"))
    ),
    ("Resize", "nearest_mode"): _always("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    ("Resize", "keep_aspect_ratio_policy"): _always("stretch", "not_larger", "not_smaller"),
    ("RoiAlign", "mode"): _always("avg", "max"),
    ("RoiAlign", "coordinate_transformation_mode"): _always("half_pixel", "output_half_pixel"),
    ("ScatterElements", "reduction"): _SCATTER,
    ("ScatterND", "reduction"): _SCATTER,
    ("SoftmaxCrossEntropyLoss", "reduction"): _LOSS,
    ("SpaceToDepth", "mode"): _BLOCKS,
    ("StringNormalizer", "case_change_action"): _always("NONE", "LOWER", "UPPER"),
    ("TensorScatter", "mode"): _always("linear", "circular"),
    ("TfIdfVectorizer", "mode"): _always("TF", "IDF", "TFIDF"),
    ("Upsample", "mode"): _UPSAMPLE,
}  # fmt: skip

_ML_WORDS: Mapping[tuple[str, str], Steps] = {
    **{(op_type, "post_transform"): _POST_TRANSFORM
       for op_type in ("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor",
                       "TreeEnsembleClassifier", "TreeEnsembleRegressor")},
    ("CastMap", "cast_to"): _always("TO_FLOAT", "TO_STRING", "TO_INT64"),
    ("CastMap", "map_form"): _always("DENSE", "SPARSE"),
    ("Normalizer", "norm"): _always("MAX", "L1", "L2"),
    ("SVMClassifier", "kernel_type"): _KERNEL,
    ("SVMRegressor", "kernel_type"): _KERNEL,
    ("TreeEnsembleRegressor", "aggregate_function"): _always("AVERAGE", "SUM", "MIN", "MAX"),
}  # fmt: skip

_TRAINING_WORDS: Mapping[tuple[str, str], Steps] = {("Momentum", "mode"): _always("nesterov", "standard")}

_DOMAINS = {"": _WORDS, "ai.onnx.ml": _ML_WORDS, "ai.onnx.preview.training": _TRAINING_WORDS}


def allowed_words(domain: str, op_type: str, version: int, name: str) -> Words | None:
    """What a string attribute may be in an opset that has it; None where it may be anything."""
    return max(
        (step for step in _DOMAINS.get(domain, {}).get((op_type, name), ()) if step[0] <= version),
        default=(0, None),
    )[1]


def first_with(domain: str, op_type: str, name: str, word: str) -> int | None:
    """The first opset in which an attribute may be that word; None where there is none."""
    steps = _DOMAINS.get(domain, {}).get((op_type, name), ())
    return min((opset for opset, words in steps if word in words), default=None)
