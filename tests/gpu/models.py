"""Models of the tests of this folder: ONNX text by name, one kernel of each kind and a few networks of several."""
HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'

MODELS = {
    "elementwise": "m (float[N, 300] x, float[300] g) => (float[N, 300] y) { a = Mul(x, g) t = Tanh(a) y = Add(t, x) }",
    "types": """m (float16[7, 33] h, double[7, 33] d, int64[7, 33] i, uint8[33] u) => (float16[7, 33] a, double[7, 33] b, int64[7, 33] c, bool[7, 33] e) {
        a = Mul(h, h) s = Sqrt(d) b = Exp(s) v = Cast<to = 7>(u) c = Div(i, v) e = Less(i, c) }""",
    "gather": "m (float[40, 9] x, int64[K] i) => (float[K, 9] y) { y = Gather(x, i) }",
    "reduction": "m (float[N, 1000] x) => (float[N, 1] y) { y = ReduceMean<keepdims = 1>(x, axis) }",
    "softmax": "m (float[N, 130] x) => (float[N, 130] y) { y = Softmax<axis = 1>(x) }",
    "norm": """m (float[N, 96] x, float[96] w, float[96] b) => (float[N, 96] y) { y = LayerNormalization<axis = 1>(x, w, b) }""",
    "matmul": "m (float[N, 40] x, float[40, 24] w, float[24] b) => (float[N, 24] y) { p = MatMul(x, w) s = Add(p, b) y = Relu(s) }",
    "conv": "m (float[1, 3, 20, 20] x, float[8, 3, 3, 3] w) => (float[1, 8, 10, 10] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w) y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c) }",
    "order": "m (float[6, 50] x) => (float[6, 5] v, int64[6, 5] i, float[6, 50] s) { v, i = TopK(x, five) s = CumSum(x, one) }",
    "scatter": "m (float[20, 4] x, int64[K, 1] i, float[K, 4] u) => (float[20, 4] y) { y = ScatterND<reduction = \"add\">(x, i, u) }",
    "nonzero": "m (float[12, 11] x) => (int64[2, K] y) { y = NonZero(x) }",
    "strings": "m (string[N] s, float[N] x) => (bool[N] y, float[N] z) { y = Equal(s, word) z = Neg(x) }",
}
# Contractions large enough for tiles in shared memory. Borders everywhere; operands that are copied by 16 bytes, by 4, or computed.
TILES = {
    "tiles": """m (float[N, 520] x, float[520, 260] w, float[260] b, float[N, 260] r) => (float[N, 260] y) {
        p = MatMul(x, w) s = Add(p, b) a = Relu(s) y = Add(a, r) }""",
    "tiles_across": "m (float[520, 130] x, float[270, 520] w) => (float[130, 270] y) { y = Gemm<transA = 1, transB = 1>(x, w) }",
    "tiles_batch": "m (float[B, 3, N, 64] x, float[B, 3, 64, N] w) => (float[B, 3, N, N] y) { y = MatMul(x, w) }",
    "tiles_conv": "m (float[N, 24, 33, 31] x, float[70, 24, 3, 3] w) => (float[N, 70, 17, 16] y) { c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) y = Relu(c) }",
    "tiles_integer": "m (uint8[140, 90] x, int8[90, 150] w) => (int32[140, 150] y) { y = MatMulInteger(x, w) }",
    "tiles_half": "m (float16[N, 520] x, float16[520, 264] w, float16[264] b) => (float16[N, 264] y) { p = MatMul(x, w) y = Add(p, b) }",
    "tiles_half_conv": "m (float16[N, 24, 33, 31] x, float16[70, 24, 3, 3] w) => (float16[N, 70, 17, 16] y) { y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) }",
}
CONSTANTS = {
    "reduction": "<int64[1] axis = {1}>",
    "order": "<int64[1] five = {5}, int64 one = {1}>",
    "strings": '<string[1] word = {"yes"}>',
}


def text(name):
    """The model: constants come after the results."""
    head, body = (MODELS | TILES)[name].split("{", 1)
    return f"{HEAD}{head} {CONSTANTS.get(name, '')} {{{body}"
