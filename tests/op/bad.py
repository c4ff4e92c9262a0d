"""Bad input for every family: what contradicts, lies out of range or is too large is refused with a message that says what, when
compiling where it is known by then, else at run time; numbers at the edges (division by zero, infinities, NaN) give what the standard,
ONNX Runtime or ir/IR.md say."""
import numpy as np
from onnx import TensorProto, helper
from op_test import Case, Opt, Seq, bools, f32, f64, i32, i64, ints, special, strings, u8

MS, ML = "com.microsoft.", "ai.onnx.ml."
NAN, INF, MOST = np.nan, np.inf, 2**63 - 1
HUGE = 2**45            # elements that no machine has room for
MEMORY = "memory|too large|overflow|needs more than"
SIZES = 'input "?x[0-9]+"?: (dimension|axis) [0-9]'       # a symbol that another input has defined


def n64(*values):
    return np.array(values, np.int64)


# --- refused: operator, operands, attributes, message; "s": as given, "S": with declared results,
# "d": sizes are symbols, "c": all operands but the first are constants, "C": all are ---

def refused(rng):
    x, y, z = f32(rng, 3, 4), f32(rng, 4, 5), f32(rng, 2, 3, 4)
    image, kernel = f32(rng, 1, 4, 6, 6), f32(rng, 2, 4, 3, 3)
    one = np.float32(1)
    index = "index.* out of range"

    # elementwise
    yield "Add", [x, y], {}, "sizes? .* broadcast", "sd"
    yield "Where", [bools(rng, 2), f32(rng, 3), one], {}, "broadcast", "sd"
    yield "Max", [x, f32(rng, 3)], {}, "broadcast", "sd"
    yield "PRelu", [x, f32(rng, 3)], {}, "slope|broadcast", "sd"
    yield "Clip", [x, f32(rng, 2)], {}, "scalar|one element", "sd"
    yield "BitShift", [u8(rng, 3), u8(rng, 3)], {"direction": "UP"}, "direction", "s"
    yield "Cast", [x], {"to": 99}, "99", "s"
    yield "Cast", [strings(rng, 2, words=("x1", "1e", "--3"))], {"to": 1}, "not a number", "s"
    yield "Add", [x, n64(1)], {}, "i64", "s"
    # reductions
    for op in ("ReduceSum", "ReduceMax", "ReduceMean", "ReduceLogSumExp"):
        yield op, [x, n64(2)], {}, "axis 2 is out of range|axis|axes", "sdc"
        yield op, [x, n64(-3)], {}, "axis -3 is out of range|axis|axes", "sdc"
    yield "ReduceSum", [x, n64(0, 0)], {}, "twice|axes", "c"
    yield "ArgMax", [x], {"axis": 2}, "axis 2 is out of range", "sd"
    yield "ArgMin", [np.float32(3)], {"axis": 1}, "axis 1 is out of range", "s"
    yield "CumSum", [x, np.int64(2)], {}, "axis", "sdc"
    yield "CumSum", [x, np.int64(-3)], {}, "axis", "sdc"
    yield "CumSum", [np.ones(1, np.float32), np.int64(-2)], {"exclusive": 1}, "axis", "sdc"     # the result is the same along any axis
    yield "Softmax", [x], {"axis": -3}, "axis -3 is out of range", "sd"
    yield "Hardmax", [x], {"axis": 2}, "axis 2 is out of range", "sd"
    # normalisation
    for n in (3, 5):
        yield "BatchNormalization", [image, *[f32(rng, n)] * 4], {}, "size|broadcast|element", "sd"
    yield "LayerNormalization", [x, f32(rng, 3)], {}, "size|broadcast", "sd"
    yield "LayerNormalization", [x, f32(rng, 4)], {"axis": 3}, "axis 3 is out of range", "sd"
    yield "InstanceNormalization", [image, f32(rng, 3), f32(rng, 3)], {}, "size|element", "sd"
    yield "GroupNormalization", [image, f32(rng, 4), f32(rng, 4)], {"num_groups": 3}, "num_groups|divi", "sd"
    yield "GroupNormalization", [image, f32(rng, 4), f32(rng, 4)], {"num_groups": 0}, "num_groups", "s"
    yield "LpNormalization", [x], {"axis": 2}, "axis 2 is out of range", "sd"
    yield "LRN", [image], {"size": 0}, "size", "s"
    yield "MeanVarianceNormalization", [x], {"axes": [0, 5]}, "axis 5 is out of range", "sd"
    # products
    yield "MatMul", [x, x], {}, "inner|size", "sd"
    yield "MatMul", [f32(rng, 2, 3, 4), f32(rng, 3, 4, 5)], {}, "broadcast", "sd"
    yield "MatMul", [x, one], {}, "rank|scalar", "s"
    yield "Gemm", [x, x], {"transA": 0}, "inner|size", "sd"
    yield "Gemm", [x, y, f32(rng, 3)], {}, "broadcast|bias|C", "sd"
    yield "Gemm", [z, y], {}, "rank", "s"
    yield "Einsum", [x, y], {"equation": "ij,kj->ik"}, "size|label", "sd"
    yield "Einsum", [x, y], {"equation": "ij,jkl->ik"}, "rank|label|subscript", "s"
    yield "Einsum", [x, y], {"equation": "ij,jk->iz"}, "z", "s"
    yield "Det", [x], {}, "square", "sd"
    # convolution, pooling
    yield "Conv", [image, f32(rng, 2, 3, 3, 3)], {}, "channel|group", "sd"
    yield "Conv", [image, kernel], {"group": 3}, "group", "sd"
    yield "Conv", [image, kernel], {"group": 0}, "group", "s"
    yield "Conv", [image, kernel], {"strides": [0, 1]}, "stride", "s"
    yield "Conv", [image, kernel], {"dilations": [1, -1]}, "dilation", "s"
    yield "Conv", [image, kernel], {"pads": [1, 1, 1]}, "pads", "s"
    yield "Conv", [image, kernel], {"kernel_shape": [2, 3]}, "kernel_shape|size", "sd"
    yield "Conv", [image, f32(rng, 2, 4, 9, 9)], {}, "window|larger|kernel|size", "sd"
    yield "Conv", [image, kernel, f32(rng, 3)], {}, "bias", "sd"
    yield "ConvTranspose", [image, f32(rng, 3, 2, 3, 3)], {}, "channel", "sd"
    yield "ConvTranspose", [image, f32(rng, 4, 2, 3, 3)], {"output_padding": [-1, 0]}, "output_padding", "s"
    for op in ("MaxPool", "AveragePool", "LpPool"):
        yield op, [image], {"kernel_shape": [9, 9]}, "window|larger|kernel|size", "sd"
        yield op, [image], {"kernel_shape": [0, 2]}, "kernel_shape", "s"
        yield op, [image], {"kernel_shape": [2, 2], "strides": [1, 0]}, "stride", "s"
        yield op, [image], {"kernel_shape": [2]}, "kernel_shape", "s"
    yield "MaxPool", [image], {"kernel_shape": [2, 2], "pads": [-3, 0, 0, 0]}, "pads", "s"
    yield "GlobalAveragePool", [f32(rng, 3)], {}, "rank", "s"
    yield "MaxUnpool", [f32(rng, 1, 1, 2, 2), i64(rng, 1, 1, 2, 2, low=90, high=99)], {"kernel_shape": [2, 2]}, "index|range", "sd"
    yield "MaxUnpool", [f32(rng, 1, 1, 2, 2), i64(rng, 1, 1, 2, 3, low=0, high=3)], {"kernel_shape": [2, 2]}, "size|shape|indices", "sd"
    # recurrent
    w, r = f32(rng, 1, 5, 4), f32(rng, 1, 5, 5)
    yield "RNN", [f32(rng, 2, 3, 6), w, r], {"hidden_size": 5}, "size", "sd"
    yield "RNN", [f32(rng, 2, 3, 4), w, r, None, n64(1, 3, 1).astype(np.int32)], {"hidden_size": 5}, "sequence_lens", "sd"
    yield "RNN", [f32(rng, 2, 3, 4), w, r, None, n64(1, -1, 1).astype(np.int32)], {"hidden_size": 5}, "sequence_lens", "sd"
    yield "LSTM", [f32(rng, 2, 3, 4), f32(rng, 1, 19, 4), f32(rng, 1, 20, 5)], {"hidden_size": 5}, "size", "sd"
    yield "GRU", [f32(rng, 2, 3, 4), f32(rng, 1, 15, 4), f32(rng, 1, 15, 5), f32(rng, 1, 29)], {"hidden_size": 5}, "size", "sd"
    # attention
    q = f32(rng, 1, 2, 3, 4)
    yield "Attention", [q, f32(rng, 1, 2, 3, 5), f32(rng, 1, 2, 3, 4)], {}, "size|head", "sd"
    yield "Attention", [q, f32(rng, 1, 2, 3, 4), f32(rng, 1, 2, 6, 4)], {}, "size|length", "sd"
    yield "Attention", [q, f32(rng, 1, 2, 3, 4), f32(rng, 1, 2, 3, 4), f32(rng, 5, 3)], {}, "size|broadcast|mask", "sd"
    yield "Attention", [f32(rng, 1, 3, 8), f32(rng, 1, 3, 8), f32(rng, 1, 3, 8)], {"q_num_heads": 3, "kv_num_heads": 3}, "divi|head", "sd"
    yield "RotaryEmbedding", [q, f32(rng, 5, 2), f32(rng, 5, 2), np.array([[0, 1, 5]])], {}, index, "sdc"
    yield "RotaryEmbedding", [q, f32(rng, 1, 3, 3), f32(rng, 1, 3, 3)], {}, "size|cache|half", "sd"
    yield "TensorScatter", [f32(rng, 2, 4, 3), f32(rng, 2, 2, 3), n64(1, 3)], {}, "range|fit|index", "sdc"
    yield MS + "MultiHeadAttention", [f32(rng, 1, 3, 8), f32(rng, 1, 3, 8), f32(rng, 1, 4, 8)], {"num_heads": 2}, "size|length", "sd"
    yield MS + "Attention", [f32(rng, 1, 3, 8), f32(rng, 7, 24), f32(rng, 24)], {"num_heads": 2}, "size|input", "sd"
    # quantisation
    yield "QuantizeLinear", [x, f32(rng, 3)], {"axis": 1}, "scale|size", "sd"
    yield "QuantizeLinear", [x, f32(rng, 4)], {"axis": 2}, "4 elements against 1", "s"
    yield "DequantizeLinear", [u8(rng, 3, 4), f32(rng, 3), u8(rng, 4)], {"axis": 0}, "zero|size", "sd"
    yield "DequantizeLinear", [u8(rng, 3, 4), f32(rng, 3, 3)], {"axis": 1, "block_size": 3}, "scale|size|block", "sd"
    yield "MatMulInteger", [u8(rng, 3, 4), u8(rng, 3, 4)], {}, "inner|size", "sd"
    yield "QLinearMatMul", [u8(rng, 3, 4), one, u8(rng), u8(rng, 4, 5), one, u8(rng), f32(rng, 2), u8(rng)], {}, "broadcast", "sd"
    yield "ConvInteger", [u8(rng, 1, 3, 4, 4), u8(rng, 2, 2, 2, 2)], {}, "channel|group", "sd"
    # moving
    yield "Reshape", [x, n64(5, 2)], {}, "cannot reshape", "sc"
    yield "Reshape", [x, n64(-1, 5)], {}, "cannot reshape", "sc"
    yield "Reshape", [x, n64(-1, -1)], {}, "-1|cannot reshape", "sc"
    yield "Reshape", [f32(rng, 0, 3), n64(0, -1)], {}, "leaves -1 undefined", "s"
    yield "Reshape", [f32(rng, 0, 3), n64(3, 0, -1)], {"allowzero": 1}, "leaves -1 undefined|cannot reshape", "s"
    yield "Reshape", [x, n64(-2, 6)], {}, "negative|-2", "sc"
    yield "Reshape", [x, n64(0, 0, 0)], {}, "copies axis 2|cannot reshape", "sc"
    yield "Reshape", [x, n64(MOST, 3)], {}, "cannot reshape|64 bits|overflows", "sc"
    yield "Flatten", [x], {"axis": 3}, "axis 3 is out of range", "sd"
    yield "Transpose", [x], {"perm": [0, 0]}, "axis 0 is named twice", "s"
    yield "Transpose", [x], {"perm": [0, 2]}, "axis 2 is out of range", "s"
    yield "Transpose", [x], {"perm": [0]}, "perm", "s"
    yield "Squeeze", [x, n64(0)], {}, "size 3|1", "sdc"
    yield "Squeeze", [f32(rng, 1, 3), n64(2)], {}, "axis|axes", "c"
    yield "Unsqueeze", [x, n64(4)], {}, "axis|axes", "sdc"
    yield "Unsqueeze", [x, n64(1, 1)], {}, "twice|axes", "c"
    yield "Concat", [x, y], {"axis": 0}, "does not fit", "sd"
    yield "Concat", [x, x], {"axis": 2}, "axis 2 is out of range", "sd"
    yield "Concat", [x, z], {"axis": 0}, "rank", "s"
    yield "Split", [x, n64(1, 1)], {}, "split|sum|size", "sdc", 2
    yield "Split", [x, n64(-1, 4)], {}, "negative|split", "sdc", 2
    yield "Split", [x, n64(1, 1, 1)], {}, "split|outputs|results", "sdc", 2
    yield "Split", [x], {"num_outputs": 2, "axis": 2}, "axis 2 is out of range", "sd", 2
    yield "Split", [x], {"num_outputs": 0}, "num_outputs", "s", 2
    yield "Slice", [x, n64(0), n64(1), n64(2)], {}, "axis|axes", "sdc"
    yield "Slice", [x, n64(0), n64(1), n64(0), n64(0)], {}, "step", "sdc"
    yield "Slice", [x, n64(0, 0), n64(1)], {}, "starts|ends|length|elements|size", "sdc"
    yield "Slice", [x, n64(0), n64(1), n64(0), n64(1, 1)], {}, "steps|length|elements|size", "sdc"
    yield "Expand", [x, n64(2, 4)], {}, "broadcast", "sc"
    yield "Expand", [x, n64(-1, 3, 4)], {}, "shape.*-1|negative size", "sc"
    yield "Expand", [one, n64(HUGE)], {}, MEMORY, "sc"
    yield "Tile", [x, n64(2)], {}, "repeats|element", "sdc"
    yield "Tile", [x, n64(2, -1)], {}, "repeats|negative", "sdc"
    yield "Tile", [x, n64(HUGE, 1)], {}, MEMORY, "sdc"
    yield "Pad", [x, n64(0, 0, 1)], {}, "pads", "sdc"
    yield "Pad", [x, n64(0, -5, 0, 0)], {}, "pads|negative|size", "sdc"
    yield "Pad", [x, n64(0, 1), None, n64(2)], {}, "axis|axes", "sdc"
    yield "Pad", [x, n64(0, HUGE, 0, HUGE)], {}, MEMORY, "sdc"
    yield "Pad", [f32(rng, 0, 2), n64(1, 0, 1, 0)], {"mode": "reflect"}, "index out of range", "sdc"
    yield "DepthToSpace", [image], {"blocksize": 3}, "blocksize|divi", "sd"
    yield "DepthToSpace", [image], {"blocksize": 0}, "blocksize", "s"
    yield "SpaceToDepth", [image], {"blocksize": 4}, "blocksize|divi", "sd"
    yield "Trilu", [f32(rng, 3)], {}, "rank", "s"
    yield "Trilu", [x, n64(1, 2)], {}, "2 elements against 1", "sdc"
    yield "ReverseSequence", [x, n64(1, 2, 4, 4)], {}, "index out of range", "sdc"
    yield "ReverseSequence", [x, n64(1, 2, 3)], {}, "sequence_lens|size", "sdc"
    yield "CenterCropPad", [x, n64(-1, 2)], {}, "negative|shape", "sdc"
    yield "CenterCropPad", [x, n64(*range(60))], {}, "60 sizes", "sc"
    # indices
    for k in (3, -4, MOST, -MOST - 1):
        yield "Gather", [x, n64(0, k)], {}, index, "sdc"
        yield "GatherElements", [x, np.array([[0, 1], [k, 0]])], {}, index, "sdc"
        yield "GatherND", [x, np.array([[k, 0]])], {}, index, "sc"
        yield "ScatterElements", [x, np.array([[0, 1], [k, 0]]), f32(rng, 2, 2)], {}, index, "sdc"
        yield "ScatterND", [x, np.array([[k, 0]]), f32(rng, 1)], {}, index, "sdc"
    yield "Gather", [f32(rng, 0, 3), n64(0)], {}, index, "sdc"
    yield "Gather", [x, n64(0)], {"axis": 2}, "axis 2 is out of range", "s"
    yield "GatherND", [x, np.array([[0, 0, 0]])], {}, "3", "sd"
    yield "GatherND", [x, np.array([[0]])], {"batch_dims": 1}, "batch axis 0", "s"
    yield "ScatterElements", [x, np.array([[0, 1]]), f32(rng, 1, 3)], {}, "do not fit", "sd"
    yield "ScatterND", [x, np.array([[0]]), f32(rng, 3)], {}, "size|rank|updates", "sd"
    yield "OneHot", [n64(0, 1), np.int64(-1), f32(rng, 2)], {}, "depth", "sdc"
    yield "OneHot", [n64(0, 1), np.int64(3), f32(rng, 3)], {}, "values|two", "sdc"
    yield "OneHot", [n64(0, 1), np.int64(HUGE), f32(rng, 2)], {}, MEMORY, "sdc"
    yield "OneHot", [n64(0, 1), np.int64(2), f32(rng, 2)], {"axis": 2}, "axis 2 is out of range", "s"
    yield "TopK", [x, n64(5)], {}, "k|5", "sdc", 2
    yield "TopK", [x, n64(-1)], {}, "k|negative|-1", "sdc", 2
    yield "TopK", [x, n64(1)], {"axis": 2}, "axis 2 is out of range", "s", 2
    yield "TopK", [one, n64(1)], {}, "axis|rank", "s", 2
    yield "Compress", [x, bools(rng, 2, 2)], {"axis": 0}, "rank", "s"
    yield "Unique", [x], {"axis": -3}, "axis -3 is out of range", "s"
    yield "NonMaxSuppression", [f32(rng, 1, 4, 5), f32(rng, 1, 1, 4), n64(1)], {}, "four", "sd"
    # images
    yield "Resize", [image, None, f32(rng, 3)], {}, "scales", "sd"
    yield "Resize", [image, None, np.float32([1, 1, -1, 2])], {}, "scale", "sdc"
    yield "Resize", [image, None, np.float32([1, 1, NAN, 2])], {}, "scale", "sdc"
    yield "Resize", [image, None, np.float32([1, 1, 1e18, 1e18])], {}, MEMORY + "|times 1e", "sdc"
    yield "Resize", [image, None, None, n64(1, 4, -2, 2)], {}, "size.*-2", "sdc"
    yield "Resize", [image, None, None, n64(1, 4)], {}, "sizes", "sdc"
    yield "GridSample", [image, f32(rng, 1, 2, 2, 3)], {}, "grid", "sd"
    yield "GridSample", [image, f32(rng, 2, 2, 2, 2)], {}, "batch|grid|size", "sd"
    yield "AffineGrid", [f32(rng, 1, 2, 3), n64(1, 1, -2, 2)], {}, "size|negative", "sdc"
    yield "AffineGrid", [f32(rng, 1, 2, 2), n64(1, 1, 2, 2)], {}, "theta", "sc"
    yield "Col2Im", [f32(rng, 1, 5, 5), n64(5, 5), n64(1, 6)], {}, "block", "sc"
    yield "AffineGrid", [f32(rng, 1, 2, 3), n64(*range(60))], {}, "60", "sc"
    yield "Col2Im", [f32(rng, 1, 4, 5), n64(5, 5), n64(2, 2)], {}, "column|block", "sc"
    yield "Col2Im", [f32(rng, 1, 4, 5), n64(*range(60)), n64(*range(1, 61))], {}, "60", "sc"
    yield "RoiAlign", [image, f32(rng, 2, 4), n64(0, 1)], {}, "batch|index|range", "sdc"
    yield "RoiAlign", [image, f32(rng, 2, 5), n64(0, 0)], {}, "4 numbers", "sd"
    yield "MaxRoiPool", [image, np.float32([[1, 0, 0, 2, 2]])], {"pooled_shape": [2, 2]}, "batch|index|range", "sdc"
    yield "DeformConv", [image, kernel, f32(rng, 1, 17, 4, 4)], {}, "offset", "sd"
    yield "ImageDecoder", [u8(rng, 9)], {}, "image", "s"
    # values from nothing
    yield "Range", [n64(0)[0], n64(9)[0], n64(0)[0]], {}, "the step is 0", "sC"
    yield "Range", [n64(0)[0], n64(HUGE)[0], n64(1)[0]], {}, MEMORY, "sC"
    yield "Range", [np.float32(0), np.float32(INF), one], {}, "number of elements|a range of", "sC"
    yield "Range", [np.float32(0), np.float32(NAN), one], {}, "number of elements|a range of", "sC"
    yield "ConstantOfShape", [n64(2, -1)], {}, "negative|outside|shape", "sC"
    yield "ConstantOfShape", [n64(HUGE, 2)], {}, MEMORY, "sC"
    yield "ConstantOfShape", [n64(2**40, 2**40)], {}, MEMORY, "sC"
    yield "EyeLike", [z], {}, "rank", "s"
    yield "RandomNormal", [], {"shape": [2, -3]}, "negative|shape", "s"
    yield "RandomNormal", [], {"shape": [2**40, 2**40]}, "large|overflow|memory|elements", "s"
    yield "Multinomial", [x], {"sample_size": -1}, "sample_size", "s"
    # training, signals
    yield "NegativeLogLikelihoodLoss", [x, n64(0, 4, 1)], {}, "index|target|label|range", "sdc"
    yield "SoftmaxCrossEntropyLoss", [x, n64(0, -1, 1)], {}, "index|target|label|range", "sdc"
    yield "SoftmaxCrossEntropyLoss", [x, n64(0, 1)], {}, "does not fit the scores", "sd"
    yield "HannWindow", [np.int64(-1)], {}, "size|negative|outside", "sC"
    yield "DFT", [f32(rng, 1, 5, 1), np.int64(0)], {}, "dft_length", "sdc"
    yield "DFT", [f32(rng, 1, 5, 1), None, np.int64(2)], {}, "axis", "sdc"
    yield "DFT", [f32(rng, 1, 5, 3)], {}, "1 or 2|real|last axis", "sd"
    yield "STFT", [f32(rng, 1, 16, 1), np.int64(0), None, np.int64(4)], {}, "frame_step|step", "sdc"
    yield "STFT", [f32(rng, 1, 16, 1), np.int64(2), None, np.int64(32)], {}, "frame|longer|signal|size", "sdc"
    # strings
    yield "StringConcat", [strings(rng, 2), strings(rng, 3)], {}, "broadcast", "sd"
    yield "RegexFullMatch", [strings(rng, 2)], {"pattern": "(a"}, "pattern", "s"
    # sequences, optionals
    a = [f32(rng, 2), f32(rng, 2)]
    for k in (2, -3, MOST, -MOST - 1):
        yield "SequenceAt", [a, np.int64(k)], {}, "position", "S"
        yield "SequenceErase", [a, np.int64(k)], {}, "position", "sc"
        yield "SequenceInsert", [a, f32(rng, 2), np.int64(k + (k == 2))], {}, "position", "sc"
    yield "SequenceAt", [Seq(np.float32), np.int64(0)], {}, "position|rank", "s"
    yield "ConcatFromSequence", [a], {"axis": 1}, "axis", "S"
    yield "ConcatFromSequence", [Seq(np.float32)], {"axis": 0}, "empty|rank", "s"
    yield "ConcatFromSequence", [[f32(rng, 2), f32(rng, 3)]], {"axis": 0, "new_axis": 1}, "size|fit", "S"
    yield "SplitToSequence", [x, n64(-1, 4)], {}, "do not fill", "sdc"
    yield "SplitToSequence", [x, np.int64(-2)], {}, "parts of size -2|split", "sdc"
    yield "OptionalGetElement", [Opt(None, x)], {}, "empty", "s"
    # ai.onnx.ml
    yield ML + "ArrayFeatureExtractor", [x, n64(4)], {}, index, "sdc"
    yield ML + "Scaler", [x], {"scale": [1.0, 2.0, 3.0], "offset": [0.0]}, "scale|offset|size", "sd"
    yield ML + "Imputer", [x], {"imputed_value_floats": [1.0, 2.0, 3.0]}, "imputed|size", "sd"
    yield ML + "LinearRegressor", [x], {"coefficients": [1.0] * 5}, "coefficients|size", "sd"
    yield ML + "ZipMap", [x], {"classlabels_int64s": [1, 2, 3]}, "label|size|column", "sd"
    yield ML + "LabelEncoder", [n64(1)], {"keys_int64s": [1, 2], "values_floats": [1.0]}, "keys|values", "s"
    yield ML + "TreeEnsembleRegressor", [x], tree(feature=9), "feature|column|range|index", "sd"
    yield ML + "TreeEnsembleRegressor", [x], tree(child=7), "node|child|7|range", "s"
    yield ML + "TreeEnsembleRegressor", [x], tree(child=0), "cycl|loop|node|twice|parent", "s"
    yield ML + "SVMRegressor", [x], {"coefficients": [1.0], "n_supports": 1, "rho": [0.0], "support_vectors": [1.0] * 3,
                                     "kernel_params": [1.0, 0.0, 1.0]}, "support|size", "sd"
    # com.microsoft
    yield MS + "FusedMatMul", [x, x], {}, "inner|size", "sd"
    yield MS + "BiasGelu", [x, f32(rng, 3)], {}, "broadcast|size|bias", "sd"
    yield MS + "SkipLayerNormalization", [f32(rng, 1, 3, 4), f32(rng, 1, 3, 4), f32(rng, 3)], {}, "size|broadcast|gamma", "sd"
    yield MS + "EmbedLayerNormalization", [i32(rng, 1, 3, low=9, high=9), None, f32(rng, 5, 4), f32(rng, 6, 4), None, f32(rng, 4), f32(rng, 4)],  \
        {}, index, "sd", 2
    yield MS + "MatMulNBits", [f32(rng, 2, 33), u8(rng, 3, 1, 16), f32(rng, 3)], {"K": 32, "N": 3, "block_size": 32}, "K", "sd"
    yield MS + "QLinearAdd", [u8(rng, 3), one, None, u8(rng, 4), one, None, one, None], {}, "broadcast", "sd"
    yield MS + "GroupQueryAttention", [f32(rng, 1, 1, 32), f32(rng, 1, 1, 16), f32(rng, 1, 1, 16), f32(rng, 1, 1, 4, 16), f32(rng, 1, 1, 4, 16),
                                       n64(9).astype(np.int32), np.int32(10)], {"num_heads": 2, "kv_num_heads": 1}, "seqlens_k", "sd", 3


def tree(feature=0, child=1):
    """A stump of two leaves."""
    return {"n_targets": 1, "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [feature, 0, 0],
            "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0], "nodes_truenodeids": [child, 0, 0],
            "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
            "target_weights": [1.0, 2.0]}


def refusals(rng):
    for op, inputs, attrs, error, ways, *nout in refused(rng):
        arrays = tuple(i for i, x in enumerate(inputs) if isinstance(x, np.ndarray))
        for way in ways:
            text = f"{error}|{SIZES}" if way == "d" else error
            yield Case(op, inputs, attrs, nout=(nout or [1])[0], error=f"(?i){text}", dynamic=way in "dS",
                       oracle=[np.zeros(2, np.float32)] if way == "S" else "ort",
                       const=() if way in "sSd" else arrays if way == "C" else arrays[isinstance(inputs[0], np.ndarray):])


# --- numbers at the edges ---

def truncated(x, y):
    """x / y toward zero, 0 where y is, of integers that numpy divides downward"""
    some = np.where(y == 0, y.dtype.type(1), y)
    q = x // some
    return np.where(y == 0, 0, q + ((x != q * some) & ((x < 0) != (some < 0)))).astype(x.dtype)


def quotients(rng):
    """Integers of all lengths, and multiples of the divisor and what is beside them: quotients that rounding could move to the next integer."""
    for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        lo, hi, bits = np.iinfo(kind).min, np.iinfo(kind).max, np.iinfo(kind).bits
        ends = np.array(sorted({v for k in range(bits) for v in ((1 << k) - 1, 1 << k, -(1 << k), 1 - (1 << k)) if lo <= v <= hi}), kind)
        y = rng.integers(lo, hi, 1200, kind, endpoint=True) >> rng.integers(0, bits, 1200).astype(kind)
        times = [int(q) % (abs(hi // int(d)) or 1) if d else 0 for q, d in zip(rng.integers(0, hi, 1200, kind), y)]
        near = np.array([min(max(int(d) * q + k % 3 - 1, lo), hi) for k, (q, d) in enumerate(zip(times, y))], kind)
        x, y = np.concatenate([np.repeat(ends, len(ends)), near]), np.concatenate([np.tile(ends, len(ends)), y])
        with np.errstate(over="ignore"):
            for by in (y, y[-1:], y[-2]):
                q = truncated(x, by)
                rest = np.where(by == 0, 0, x - q * by).astype(kind)
                yield Case("Div", [x, by], oracle=[q])
                yield Case("Mod", [x, by], {"fmod": 1}, oracle=[rest])
                yield Case("Mod", [x, by], oracle=[np.where((rest != 0) & ((rest < 0) != (by < 0)), rest + by, rest).astype(kind)])


def whole(rng):
    """Integers are total (ir/IR.md, 2): x / 0 = x mod 0 = 0, MIN / -1 = MIN; shifts by the width or more give 0."""
    for kind in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        lo, hi = np.iinfo(kind).min, np.iinfo(kind).max
        minus = [-1] if lo else [hi]
        a = np.array([7, lo, hi, 0, lo, 5, hi, *[lo] * 9], kind)
        b = np.array([0, 0, 0, 0, *minus, *minus, *minus, *[1] * 9], kind)
        quotient = np.array([0, 0, 0, 0, lo, -5 if lo else 0, -hi if lo else 1, *[lo] * 9], kind)
        rest = np.zeros(16, kind)
        if not lo:
            rest[5] = 5
        for const, dynamic in (((), False), ((1,), True)):
            yield Case("Div", [a, b], oracle=[quotient], const=const, dynamic=dynamic)
            for fmod in (0, 1):
                yield Case("Mod", [a, b], {"fmod": fmod}, oracle=[rest], const=const, dynamic=dynamic)
        yield Case("Abs", [a[:7]], oracle=[np.abs(a[:7])])
        if not lo:
            bits = np.iinfo(kind).bits
            by = np.array([0, 1, bits - 1, bits, bits + 1, hi, 2 * bits], kind)
            for way in ("LEFT", "RIGHT"):
                want = [int(hi) << int(k) & int(hi) if way == "LEFT" else int(hi) >> int(k) if k < bits else 0 for k in np.minimum(by, 99)]
                yield Case("BitShift", [np.full(7, hi, kind), by], {"direction": way}, oracle=[np.array(want, kind)], dynamic=way == "LEFT")
    yield Case("Pow", [n64(0, 0, 2, -1, 3), n64(0, -1, -1, -3, 64)], oracle=[n64(1, 0, 0, -1, (3**64 + 2**63) % 2**64 - 2**63)])
    yield Case("ReduceMean", [np.zeros((2, 0), np.int32), n64(1)], oracle=[np.zeros((2, 1), np.int32)])


def casts(rng):
    """Truncated and saturated, NaN becomes 0."""
    for kind in (np.float16, np.float32, np.float64):
        with np.errstate(all="ignore"):
            x = np.array([NAN, INF, -INF, 1e30, -1e30, 300.7, -300.7, 0.99, -0.99, 2.0**31, -2.0**31, 2.0**63, 2.0**64, -0.0, 127.5, -128.9])
            x = x.astype(kind)
        for to in (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
            lo, hi = int(np.iinfo(to).min), int(np.iinfo(to).max)
            want = [0 if v != v else hi if v >= hi else lo if v <= lo else int(v) for v in x.astype(np.float64)]
            for const in ((), (0,)):
                yield Case("Cast", [x], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(to))}, oracle=[np.array(want, to)], const=const)
        yield Case("Cast", [x], {"to": TensorProto.BOOL}, oracle=[x != 0], dynamic=True)


def floats(rng):
    """NaN, infinities, subnormals and huge numbers in every kind of operator that computes with floats."""
    x, y = special(rng, 6, 24), special(rng, 24, 5)
    tame = lambda *s: np.where(np.abs(v := special(rng, *s)) > 1e3, np.float32(NAN), v).astype(np.float32)
    with np.errstate(all="ignore"):
        small = f32(rng, 6, 24)
        small[0, :4], small[1, 3], small[2, 5], small[3], small[4, :] = [NAN, INF, -INF, 0], INF, -INF, 0, -INF
    image = f32(rng, 1, 2, 5, 6)
    image[0, 0, 1, 2], image[0, 0, 4, 4], image[0, 1, 0, 0], image[0, 1, 2, 2] = NAN, INF, -INF, INF
    for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Less", "GreaterOrEqual", "Equal"):
        yield Case(op, [special(rng, 70), special(rng, 70)], tol=1e-5, oracle="reference" if op in ("Max", "Min") else "ort", dynamic=op < "M")
    for at in (-1, 0, 1):       # a table of one number is a table
        why = "out of range" if at > 0 else None
        yield Case("GatherElements", [f32(rng, 1), np.int64([0, at, 0])], {"axis": 0}, const=(0,), dynamic=True, error=why)
    yield Case("Mod", [special(rng, 70), special(rng, 70)], {"fmod": 1}, oracle=lambda a, b: [np.fmod(a, b)])
    yield Case("Mod", [f32(rng, 300, scale=1e30), f32(rng, 300, scale=1e-30)], {"fmod": 1}, oracle=lambda a, b: [np.fmod(a, b)], tol=0)
    wide = [(rng.standard_normal(600) * 10.0 ** rng.uniform(-320, 308, 600)) for _ in range(2)]
    yield Case("Mod", wide, {"fmod": 1}, oracle=lambda a, b: [np.fmod(a, b)], tol=0)
    by = wide[1] * 2.0**-30
    yield Case("Mod", [by * rng.integers(1, 1 << 30, 600), by], {"fmod": 1}, oracle=lambda a, b: [np.fmod(a, b)], tol=0)
    for op in ("Sum", "Mean"):
        yield Case(op, [x, special(rng, 6, 24), special(rng, 24)])
    for op in ("Acos", "Asin", "Atanh", "Acosh", "Log", "Sqrt", "Tan", "Softplus", "HardSwish", "Mish", "Erf", "Exp", "Round"):
        yield Case(op, [np.concatenate([tame(60), np.float32([2, -2, 1, -1, 0, -0.0])])], tol=1e-5)
    for op in ("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"):
        yield Case(op, [small, n64(1)], {"keepdims": 0}, dynamic=True, const=(1,))
    for op in ("ReduceMax", "ReduceMin"):
        yield Case(op, [small, n64(1)], oracle=lambda a, _, f=op: [(np.max if f[-1] == "x" else np.min)(a, 1, keepdims=True)])
    yield Case("ReduceSum", [f32(rng, 3, 0), n64(1)], oracle=[np.zeros((3, 1), np.float32)])
    yield Case("ReduceMax", [f32(rng, 3, 0), n64(1)], oracle=[np.full((3, 1), -INF, np.float32)], dynamic=True)
    yield Case("ReduceMean", [f32(rng, 3, 0), n64(1)], oracle=[np.full((3, 1), NAN, np.float32)])
    for op in ("Softmax", "LogSoftmax"):
        yield Case(op, [small[[1, 2, 3, 5]]], oracle="reference", dynamic=True)
    yield Case("CumSum", [small, np.int64(1)])
    yield Case("MatMul", [small, f32(rng, 24, 5)], oracle=lambda a, b: [a @ b])
    yield Case("MatMul", [f32(rng, 5, 6), small], oracle=lambda a, b: [a @ b], dynamic=True, const=(1,))
    yield Case("Gemm", [small, f32(rng, 24, 5), np.float32([NAN, 1, INF, 2, 3])], {"alpha": 0.5},
               oracle=lambda a, b, c: [a @ b * np.float32(0.5) + c])
    for kind in ("MaxPool", "AveragePool"):
        yield Case(kind, [image[:, 1:]], {"kernel_shape": [2, 2]}, dynamic=kind[0] == "M")
    yield Case("GlobalAveragePool", [image])
    yield Case("LayerNormalization", [small, f32(rng, 24), f32(rng, 24)])
    yield Case("LayerNormalization", [np.zeros((2, 8), np.float32), f32(rng, 8), f32(rng, 8)], {"epsilon": 0.0}, oracle="reference")
    yield Case("LpNormalization", [np.zeros((2, 8), np.float32)], oracle="reference")
    yield Case("BatchNormalization", [image, *[f32(rng, 2)] * 3, np.float32([-1, 0])], {"epsilon": 0.0})
    yield Case("Clip", [special(rng, 40), np.float32(1), np.float32(-1)], oracle=lambda a, lo, hi: [np.minimum(np.maximum(a, lo), hi)])
    for largest in (0, 1):
        v = np.float32([1, INF, -INF, 3, 0, -5, 2])
        yield Case("TopK", [v, n64(4)], {"largest": largest}, nout=2)
    yield Case("TopK", [f32(rng, 3, 0), n64(0)], nout=2, oracle=[np.zeros((3, 0), np.float32), np.zeros((3, 0), np.int64)], dynamic=True)
    yield Case("QuantizeLinear", [np.float32([INF, -INF, 1e30, -1e30, 300, -0.0]), np.float32(0.5), np.uint8(3)])
    yield Case("QuantizeLinear", [np.float32([1, -1, 5]), np.float32(0), np.int8(3)], oracle=[np.int8([127, -128, 127])])
    yield Case("QuantizeLinear", [np.float32([NAN, 1]), np.float32(1), np.int8(3)], oracle=[np.int8([0, 4])])
    yield Case("Resize", [image, None, None, n64(1, 2, 3, 3)], {"mode": "nearest"})
    grid = np.float32([[[[NAN, 0.5], [0.5, NAN], [NAN, NAN], [0.25, 0.5]]]])
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            yield Case("GridSample", [f32(rng, 1, 2, 3, 4), grid], {"mode": mode, "padding_mode": padding}, dynamic=mode == "cubic")
        yield Case("GridSample", [f32(rng, 1, 1, 3, 4), np.float32([[[[INF, INF], [-INF, 0.5], [0, -INF], [1e30, 0]]]])],
                   {"mode": mode}, oracle=[np.zeros((1, 1, 1, 4), np.float32)])
        yield Case("GridSample", [f32(rng, 1, 1, 3, 4), np.float32([[[[INF, INF], [-INF, INF], [INF, -INF], [-1e30, -1e30]]]])],
                   {"mode": mode, "padding_mode": "border"}, oracle=lambda x, g: [x[:, :, [2, 2, 0, 0], [3, 0, 3, 0]][:, :, None]])
    yield Case("NonZero", [np.float32([[NAN, 0], [-0.0, INF]])], oracle=[np.int64([[0, 1], [0, 1]])])
    yield Case("Where", [np.isnan(x), x, x])
    yield Case("ArgMax", [small[[1, 2, 5]]], {"axis": 1})
    yield Case("Einsum", [small, f32(rng, 24, 5)], {"equation": "ij,jk->ik"}, oracle=lambda a, b: [a @ b])
    yield Case(ML + "Normalizer", [np.zeros((2, 3), np.float32)], {"norm": "L2"})
    yield Case(ML + "TreeEnsembleRegressor", [np.float32([[NAN], [INF], [-INF], [0.5]])], tree(), oracle=[np.float32([[2], [2], [1], [1]])])
    yield Case(MS + "QuickGelu", [tame(50)], oracle=lambda a: [a / (1 + np.exp(-np.float32(1.702) * a))])
    yield Case(MS + "FusedMatMul", [small, f32(rng, 24, 5)], oracle=lambda a, b: [a @ b])
    yield Case("RegexFullMatch", [np.array([b"\xff", b"a\xc3", "é".encode(), b"\xed\xa0\x80"], object)], {"pattern": "é+"},
               oracle=[np.array([False, False, True, False])])


def empty(rng):
    """No elements, no axes."""
    none, scalar = f32(rng, 0, 3), np.float32(2)
    for op in ("Relu", "Exp", "Softmax", "Neg", "Identity", "IsNaN"):
        yield Case(op, [none], dynamic=op < "N")
    for op in ("Abs", "Sqrt", "Sigmoid", "Flatten", "Shape", "Size", "Transpose"):
        yield Case(op, [scalar], {"axis": 0} if op == "Flatten" else {})
    for inputs in ([none, f32(rng, 3, 4)], [f32(rng, 4, 0), f32(rng, 0, 3)], [f32(rng, 2, 0, 3), f32(rng, 3, 2)]):
        for dynamic in (False, True):
            yield Case("MatMul", inputs, dynamic=dynamic, oracle=lambda a, b: [a @ b])
        yield Case("MatMul", inputs, const=(1,), oracle=lambda a, b: [a @ b])
    yield Case("MatMul", [f32(rng, 0, 4), f32(rng, 4, 5)], const=(1,), oracle=lambda a, b: [a @ b])
    for m, k in ((0, 12), (3, 0)):
        a, b = ints(rng, m, k, low=-9, high=9, dtype=np.int8), ints(rng, k, 17, low=-9, high=9, dtype=np.int8)
        for const in ((0, 1), (1,)):
            yield Case("MatMulInteger", [a, b], const=const, oracle=lambda a, b: [a.astype(np.int32) @ b.astype(np.int32)])
            yield Case("Gemm", [f32(rng, m, k), f32(rng, k, 17)], const=const, oracle=lambda a, b: [a @ b])
    yield Case("MatMul", [f32(rng, 0, 4, 5), f32(rng, 5, 7)], const=(0, 1), oracle=lambda a, b: [a @ b])
    yield Case("Concat", [none, f32(rng, 2, 3)], {"axis": 0}, dynamic=True)
    yield Case("Conv", [f32(rng, 0, 2, 5, 5), f32(rng, 3, 2, 3, 3)], oracle=[np.zeros((0, 3, 3, 3), np.float32)], dynamic=True)
    yield Case("MaxPool", [f32(rng, 0, 2, 5, 5)], {"kernel_shape": [2, 2]}, oracle=[np.zeros((0, 2, 4, 4), np.float32)], dynamic=True)
    yield Case("Gather", [none, i64(rng, 0)], {"axis": 0}, dynamic=True)
    yield Case("Gather", [f32(rng, 2, 0), np.array([[33]])], oracle=[np.zeros((1, 1, 0), np.float32)], dynamic=True)
    yield Case("Gather", [f32(rng, 3), np.int64(-3)], dynamic=True)
    yield Case("ScatterND", [f32(rng, 3), np.zeros((0, 1), np.int64), f32(rng, 0)], dynamic=True, oracle=lambda a, i, u: [a])
    yield Case("ScatterElements", [f32(rng, 3), n64(-1, -3), f32(rng, 2)], dynamic=True)
    yield Case("Reshape", [f32(rng, 0, 3), n64(3, 0)], {"allowzero": 1}, oracle=[np.zeros((3, 0), np.float32)], const=(1,))
    for to, want in (([0, -1], [0, 3]), ([-1, 0], [0, 3]), ([-1], [0]), ([3, -1], [3, 0])):       # of [0, 3]; copies are known
        yield Case("Reshape", [none, np.int64(to)], oracle=[np.zeros(want, np.float32)], const=(1,), dynamic=True)
        if to[0]:
            yield Case("Reshape", [none, np.int64(to)], oracle=[np.zeros(want, np.float32)])
    yield Case("Slice", [f32(rng, 4), n64(3), n64(1), n64(0), n64(1)], dynamic=True)
    yield Case("Tile", [f32(rng, 2, 3), n64(0, 2)], oracle=[np.zeros((0, 6), np.float32)], dynamic=True)
    yield Case("CumSum", [none, np.int64(0)], dynamic=True)
    yield Case("Unique", [f32(rng, 0)], nout=1, oracle=[np.zeros(0, np.float32)])
    yield Case("Det", [f32(rng, 0, 2, 2)], oracle=[np.zeros(0, np.float32)], dynamic=True)
    yield Case("LayerNormalization", [none, f32(rng, 3)], dynamic=True)
    yield Case("Range", [n64(5)[0], n64(2)[0], n64(1)[0]])
    yield Case("Range", [n64(2**63 - 1)[0], n64(-2**63)[0], n64(-2**63)[0]], const=(0, 1, 2), oracle=[n64(2**63 - 1, -1)])
    yield Case("Compress", [none, np.zeros(0, bool)], {"axis": 0}, dynamic=True)
    yield Case("SequenceLength", [Seq(np.float32)], oracle=[np.int64(0)])
    yield Case("StringSplit", [np.zeros(0, object)], nout=2, oracle=[np.zeros((0, 0), object), np.zeros(0, np.int64)])


def cases(rng):
    yield from refusals(rng)
    yield from whole(rng)
    yield from quotients(rng)
    yield from casts(rng)
    yield from floats(rng)
    yield from empty(rng)
