"""Models of the tests of this folder: ONNX text by name, one kernel of each kind and a few networks of several."""
import math

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'

MODELS = {
    "elementwise": "m (float[N, 300] x, float[300] g) => (float[N, 300] y) { a = Mul(x, g) t = Tanh(a) y = Add(t, x) }",
    "types": """m (float16[7, 33] h, double[7, 33] d, int64[7, 33] i, uint8[33] u)
        => (float16[7, 33] a, double[7, 33] b, int64[7, 33] c, bool[7, 33] e) {
        a = Mul(h, h) s = Sqrt(d) b = Exp(s) v = Cast<to = 7>(u) c = Div(i, v) e = Less(i, c) }""",
    "gather": "m (float[40, 9] x, int64[K] i) => (float[K, 9] y) { y = Gather(x, i) }",
    "reduction": "m (float[N, 1000] x) => (float[N, 1] y) { y = ReduceMean<keepdims = 1>(x, axis) }",
    "softmax": "m (float[N, 130] x) => (float[N, 130] y) { y = Softmax<axis = 1>(x) }",
    "norm": """m (float[N, 96] x, float[96] w, float[96] b) => (float[N, 96] y) { y = LayerNormalization<axis = 1>(x, w, b) }""",
    "matmul": "m (float[N, 40] x, float[40, 24] w, float[24] b) => (float[N, 24] y) { p = MatMul(x, w) s = Add(p, b) y = Relu(s) }",
    "conv": "m (float[1, 3, 20, 20] x, float[8, 3, 3, 3] w) => (float[1, 8, 10, 10] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w) "
            "y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c) }",
    "order": "m (float[6, 500] x) => (float[6, 5] v, int64[6, 5] i, float[6, 500] s) { v, i = TopK(x, five) s = CumSum(x, one) }",
    "transpose": "m (float[N, 70] x, float[70, N] r) => (float[70, N] y) { t = Transpose<perm = [1, 0]>(x) y = Add(t, r) }",
    "scatter": "m (float[20, 4] x, int64[K, 1] i, float[K, 4] u) => (float[20, 4] y) { y = ScatterND<reduction = \"add\">(x, i, u) }",
    "nonzero": "m (float[12, 11] x) => (int64[2, K] y) { y = NonZero(x) }",
    "strings": "m (string[N] s, float[N] x) => (bool[N] y, float[N] z) { y = Equal(s, word) z = Neg(x) }",
}
# Contractions by blocks: large enough for tiles in shared memory, or of few rows. Borders everywhere; operands that are copied by 16
# bytes, by 4, or computed.
TILES = {
    "tiles": """m (float[N, 104] x, float[104, 132] w, float[132] b, float[N, 132] r) => (float[N, 132] y) {
        p = MatMul(x, w) s = Add(p, b) a = Relu(s) y = Add(a, r) }""",
    "tiles_across": "m (float[72, 130] x, float[140, 72] w) => (float[130, 140] y) { y = Gemm<transA = 1, transB = 1>(x, w) }",
    "tiles_batch": "m (float[B, 3, N, 64] x, float[B, 3, 64, N] w) => (float[B, 3, N, N] y) { y = MatMul(x, w) }",
    "tiles_conv": """m (float[B, 12, 19, 17] x, float[70, 12, 3, 3] w) => (float[B, 70, 10, 9] y) {
        c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) y = Relu(c) }""",
    "tiles_integer": "m (uint8[140, 90] x, int8[90, 150] w) => (int32[140, 150] y) { y = MatMulInteger(x, w) }",
    "tiles_integer_across": "m (int8[140, 96] x, uint8[150, 96] w) => (int32[140, 150] y) "
                            "{ t = Transpose<perm = [1, 0]>(w) y = MatMulInteger(x, t) }",
    "tiles_half": "m (float16[N, 104] x, float16[104, 136] w, float16[136] b) => (float16[N, 136] y) { p = MatMul(x, w) y = Add(p, b) }",
    "tiles_half_conv": """m (float16[B, 12, 19, 17] x, float16[70, 12, 3, 3] w) => (float16[B, 70, 10, 9] y) {
        y = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) }""",
    "tiles_channels": """m (float[B, 12, 9, 8] x, float[70] b) => (float[B, 70, 9, 4] y) {
        c = Conv<strides = [1, 2], pads = [1, 1, 1, 1]>(x, w, b) y = Relu(c) }""",
    "tiles_half_channels": """m (float16[B, 24, 9, 8] x) => (float16[B, 70, 9, 4] y) {
        c = Conv<strides = [1, 2], pads = [1, 1, 1, 1]>(x, w) y = Relu(c) }""",
    "tiles_bytes_channels": "m (uint8[B, 32, 9, 8] x, uint8 zero) => (int32[B, 70, 9, 8] y) { y = ConvInteger<pads = [1, 1, 1, 1]>(x, w, zero) }",
    "wgmma_across": """m (float16[136, 200] x, float16[232, 136] w, float16[200, 232] r) => (float16[200, 232] y) {
        p = Gemm<transA = 1, transB = 1>(x, w) y = Add(p, r) }""",
    "wgmma_turned": "m (float16[136, 200] x, float16[136, 232] w) => (float16[200, 232] y) { y = Gemm<transA = 1>(x, w) }",
    "wgmma_batch": "m (float16[B, 3, 150, 72] x, float16[B, 3, 72, 136] w) => (float16[B, 3, 150, 136] y) { y = MatMul(x, w) }",
    "wgmma_channels": "m (float16[70, 72] w, float16[B, 72, 320] x) => (float16[B, 70, 320] y) { y = MatMul(w, x) }",
    "wgmma_heads": """m (float16[B, 3, N, 64] x, float16[192, 200] w, float16[200] b) => (float16[B, N, 200] y) <int64[3] s = {0, 0, 192}> {
        t = Transpose<perm = [0, 2, 1, 3]>(x) f = Reshape(t, s) p = MatMul(f, w) y = Add(p, b) }""",
    "wgmma_lines": """m (float16[B, 3, N, 40] x, float16[120, 200] w, float16[200] b) => (float16[B, N, 200] y) <int64[3] s = {0, 0, 120}> {
        t = Transpose<perm = [0, 2, 1, 3]>(x) f = Reshape(t, s) p = MatMul(f, w) y = Add(p, b) }""",
    "wgmma_levels": """m (float16[136, 3, 136] x, float16[136, 232] w) => (float16[3, 128, 232] y)
        <int64[1] s = {0}, int64[1] e = {128}, int64[1] a = {2}> {
        f = Slice(x, s, e, a) y = Einsum<equation = "kab,kn->abn">(f, w) }""",
    "wgmma_whole": "m (float[N, 104] x, float[140, 104] w, float[140] b) => (float[N, 140] y) { y = Gemm<transB = 1>(x, w, b) }",
    "wgmma_integer": "m (uint8[N, 272] x, int8[150, 272] w) => (int32[N, 150] y) { t = Transpose<perm = [1, 0]>(w) y = MatMulInteger(x, t) }",
    "windows": """m (float16[B, 64, 19, 17] x) => (float16[B, 40, 10, 9] y) {
        c = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, w) y = Relu(c) }""",
    "windows_dilated": """m (float16[B, 64, 12, 13] x) => (float16[B, 24, 12, 5] y) {
        y = Conv<strides = [1, 3], dilations = [2, 1], pads = [1, 2, 3, 0]>(x, w) }""",
    "windows_line": "m (float16[B, 128, N] x) => (float16[B, 24, N] y) { y = Conv<pads = [2, 2]>(x, w) }",
    "windows_volume": """m (float16[B, 64, 5, 6, 7] x) => (float16[B, 16, 5, 3, 7] y) {
        y = Conv<strides = [1, 2, 1], pads = [1, 1, 1, 1, 1, 1]>(x, w) }""",
    "windows_points": """m (float16[B, 21, 11, 72] x) => (float16[B, 11, 6, 16] y) {
        t = Transpose<perm = [0, 3, 1, 2]>(x) c = Conv<strides = [2, 2]>(t, w) y = Transpose<perm = [0, 2, 3, 1]>(c) }""",
    "windows_lines": "m (float16[B, 72, 9, 8] x) => (float16[B, 40, 5, 8] y) { y = Conv<strides = [2, 1], pads = [1, 1, 1, 1]>(x, w) }",
    "windows_groups": "m (float16[B, 128, 9, 8] x) => (float16[B, 32, 9, 4] y) { y = Conv<group = 2, strides = [1, 2], pads = [1, 1, 1, 1]>(x, w) }",
    "windows_image": "m (float16[1, 64, 9, 9] x) => (float16[1, 16, 1, 9] y) { y = Conv<pads = [0, 1, 0, 1]>(x, w) }",
    "windows_whole": "m (float[B, 32, 9, 8] x) => (float[B, 40, 9, 8] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }",
    "windows_integer": "m (uint8[B, 128, 9, 8] x) => (int32[B, 16, 9, 8] y) { y = ConvInteger<pads = [1, 1, 1, 1]>(x, w) }",
    "few": "m (float[3, 1000] x, float[1000, 68] w, float[68] b) => (float[3, 68] y) { p = MatMul(x, w) y = Add(p, b) }",
    "few_across": "m (float[5, 520] x, float[67, 520] w) => (float[5, 67] y) { p = Gemm<transB = 1>(x, w) y = Relu(p) }",
    "split": """m (float[70, 2048] x, float[2048, 68] w, float[68] b) => (float[70, 68] y) { p = MatMul(x, w) s = Add(p, b) y = Relu(s) }""",
    "split_few": "m (float16[9, 4096] x, float16[4096, 64] w) => (float16[9, 64] y) { y = MatMul(x, w) }",
    "split_conv": "m (float[1, 512, 5, 5] x, float[40, 512, 3, 3] w) => (float[1, 40, 5, 5] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }",
    "few_odd": "m (float[batch, 521, 3] x, float[521, 67] w) => (float[batch, 3, 67] y) { t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(t, w) }",
    "few_half": "m (float16[9, 1000] x, float16[1000, 72] w) => (float16[9, 72] y) { y = MatMul(x, w) }",
    "few_half_across": "m (float16[5, 520] x, float16[67, 520] w) => (float16[5, 67] y) { y = Gemm<transB = 1>(x, w) }",
    "few_channels": "m (float[batch, 16, 4, 3] x) => (float[batch, 36, 4, 3] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }",
    "few_half_channels": "m (float16[batch, 16, 4, 3] x) => (float16[batch, 36, 4, 3] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }",
    "few_bits": """m (float[3, 1024] x, uint8[42, 32, 16] w, float[42, 32] s, uint8[42, 16] z) => (float[3, 42] y) {
        y = com.microsoft.MatMulNBits<K = 1024, N = 42, bits = 4, block_size = 32>(x, w, s, z) }""",
    "few_bits_across": """m (float[7, 576] x, uint8[37, 36, 4] w, float[37, 36] s) => (float[7, 37] y) {
        t = Mul(x, x) p = com.microsoft.MatMulNBits<K = 576, N = 37, bits = 2, block_size = 16>(t, w, s) y = Relu(p) }""",
    "few_bytes": """m (float16[3, 640] x, uint8[48, 5, 128] w, float16[48, 5] s, uint8[48, 5] z) => (float16[3, 48] y) {
        y = com.microsoft.MatMulNBits<K = 640, N = 48, bits = 8, block_size = 128>(x, w, s, z) }""",
    "few_rows_of_bytes": """m (float[3, 200] x, int8[200, 80] w, float[80] s, int8[80] z) => (float[3, 80] y) {
        d = DequantizeLinear<axis = 1>(w, s, z) y = MatMul(x, d) }""",
    "attention": """m (float[B, 3, N, 64] q, float[B, 3, N, 64] k, float[B, 3, N, 64] v) => (float[B, 3, N, 64] y) {
        t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t) c = Mul(s, eighth) p = Softmax<axis = 3>(c) y = MatMul(p, v) }""",
    "attention_mask": """m (float[B, N, 2, 40] q, float[B, 2, 40, 101] k, float[B, 2, 101, 24] v, float[B, 1, 1, 101] mask)
        => (float[B, N, 2, 24] y) {
        r = Transpose<perm = [0, 2, 1, 3]>(q) s = MatMul(r, k) c = Add(s, mask) p = Softmax<axis = 3>(c) o = MatMul(p, v) z = Relu(o)
        y = Transpose<perm = [0, 2, 1, 3]>(z) }""",
    "attention_half": """m (float16[B, 3, N, 64] q, float16[B, 3, 64, N] k, float16[B, 3, N, 64] v) => (float16[B, 3, N, 64] y) {
        s = MatMul(q, k) p = Softmax<axis = 3>(s) y = MatMul(p, v) }""",
    "attention_half_causal": """m (float16[B, 3, N, 40] q, float16[B, 3, N, 40] k, float16[B, 3, N, 72] v) => (float16[B, 3, N, 72] y) {
        y = Attention<is_causal = 1>(q, k, v) }""",
    "attention_half_wide": """m (float16[B, 3, N, 128] q, float16[B, 3, 128, N] k, float16[B, 3, N, 128] v) => (float16[B, 3, N, 128] y) {
        s = MatMul(q, k) p = Softmax<axis = 3>(s) y = MatMul(p, v) }""",
    "attention_wide": "m (float[B, 2, N, 128] q, float[B, 2, N, 128] k, float[B, 2, N, 128] v) => (float[B, 2, N, 128] y) { y = Attention(q, k, v) }",
    "attention_causal": """m (float[B, 3, N, 20] q, float[B, 3, N, 20] k, float[B, 3, N, 33] v) => (float[B, 3, N, 33] y) {
        y = Attention<is_causal = 1>(q, k, v) }""",
}
GEMM = [f"gemm rows={r} cols={c}" for r, c in ((128, 128), (128, 64), (64, 128), (64, 64), (32, 64), (64, 32))]
MMA = [f"mma rows={r} cols={c}" for r, c in ((128, 128), (128, 64), (64, 128), (64, 64), (32, 64))]
WGMMA = [f"wgmma rows={r} cols={c}" for r, c in ((128, 256), (256, 128), (128, 192), (128, 128), (64, 256), (128, 64), (64, 128))]
CLUSTER = [f"wgmma rows={r} cols={c} cluster=2" for r, c in ((128, 128), (128, 256), (256, 128), (64, 256), (64, 128))]
GEMV, FLASH = ["gemv rows=1", "gemv rows=2", "gemv rows=4"], ["flash rows=64"]
# Operands that bulk copies cannot bring: walked backwards, of rows that are not whole pieces of 16 bytes, padded by other values than 0.
NO_BULK = {
    "backwards": """m (float16[4, 150, 72] x, float16[72, 136] w) => (float16[4, 150, 136] y)
        <int64[1] s = {-1}, int64[1] e = {-9}, int64[1] a = {0}> {
        z = Slice(x, s, e, a, s) y = MatMul(z, w) }""",
    "odd": "m (float16[150, 100] x, float16[100, 136] w) => (float16[150, 136] y) { y = MatMul(x, w) }",
    "padded": """m (float16[1, 64, 20, 20] x, float16[64, 64, 3, 3] w) => (float16[1, 64, 20, 20] y)
        <int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, float two = {2}> {
        v = Cast<to = 10>(two) z = Pad(x, p, v) y = Conv(z, w) }""",
}
# Schedules of these models, with --precision.
_SCHEDULES = [
    ("tiles", GEMM, None), ("tiles_across", GEMM, None), ("tiles_batch", GEMM, None), ("tiles_conv", GEMM, None),
    ("tiles_integer", GEMM[::3] + MMA[:1] + MMA[3:], None), ("tiles_integer_across", MMA, None), ("tiles_half", GEMM[3:4] + MMA, None),
    ("tiles_half_conv", MMA[:1] + MMA[2:], None), ("tiles", MMA, "tf32"), ("tiles_across", MMA, "tf32"),
    ("tiles_conv", MMA[:1] + MMA[2:], "bf16"),
    ("tiles_across", MMA[2:], "f16"), ("split", GEMM[3:4], None), ("split_conv", GEMM[4:5], None), ("split_few", GEMV[:1] + MMA[3:4], None),
    ("tiles_half", WGMMA + CLUSTER, None), ("wgmma_whole", WGMMA + CLUSTER[:2], "tf32"), ("wgmma_whole", WGMMA[::3], "bf16"),
    *((name, WGMMA + CLUSTER[:1], None) for name in TILES if name.startswith("wgmma_") and name != "wgmma_whole"),
    *((name, WGMMA + CLUSTER[-1:], "tf32" if name == "windows_whole" else None) for name in TILES if name.startswith("windows")),
    ("tiles_channels", GEMM, None), ("tiles_half_channels", MMA, None), ("tiles_bytes_channels", MMA, None),
    *((name, GEMV, None) for name in TILES if name.startswith("few")), *((name, FLASH, None) for name in TILES if name.startswith("attention")),
    ("attention", FLASH, "tf32"),
]


def tiles():
    """Model, schedule, precision."""
    return [(name, schedule, precision) for name, schedules, precision in _SCHEDULES for schedule in schedules]


def _weights(kind, *shape):
    """Small whole numbers; float16 as bits: from 0.5 to 1.6, of both signs."""
    numbers = (i * 37 % 19 - 9 if kind != "float16" else 0x3800 + i * 37 % 19 * 64 + i % 3 % 2 * 0x8000 for i in range(math.prod(shape)))
    return f"<{kind}[{', '.join(map(str, shape))}] w = {{{', '.join(map(str, numbers))}}}>"


CONSTANTS = {
    "tiles_channels": _weights("float", 70, 12, 3, 3),
    "tiles_half_channels": _weights("float16", 70, 24, 3, 3),
    "few_channels": _weights("float", 36, 16, 3, 3),
    "few_half_channels": _weights("float16", 36, 16, 3, 3),
    "tiles_bytes_channels": _weights("int8", 70, 32, 3, 3),
    "windows": _weights("float16", 40, 64, 3, 3),
    "windows_dilated": _weights("float16", 24, 64, 3, 3),
    "windows_line": _weights("float16", 24, 128, 5),
    "windows_volume": _weights("float16", 16, 64, 3, 3, 3),
    "windows_points": _weights("float16", 16, 72, 1, 1),
    "windows_lines": _weights("float16", 40, 72, 3, 3),
    "windows_groups": _weights("float16", 32, 64, 3, 3),
    "windows_image": _weights("float16", 16, 64, 9, 3),
    "windows_whole": _weights("float", 40, 32, 3, 3),
    "windows_integer": _weights("int8", 16, 128, 3, 3),
    "attention": "<float eighth = {0.125}>",
    "reduction": "<int64[1] axis = {1}>",
    "order": "<int64[1] five = {5}, int64 one = {1}>",
    "strings": '<string[1] word = {"yes"}>',
}


def text(name):
    """The model: constants come after the results."""
    head, body = (MODELS | TILES | NO_BULK)[name].split("{", 1)
    opset = HEAD.replace("18", "23") if "Attention" in body else HEAD
    if "com.microsoft" in body:
        opset = opset.replace("]", ', "com.microsoft" : 1]')
    return f"{opset}{head} {CONSTANTS.get(name, '')} {{{body}"
