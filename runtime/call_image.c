/* call_image.c: images as files to pixels (ImageDecoder). BMP and PNM are read here; JPEG, PNG, WebP, TIFF and JPEG 2000 by the libraries that
 * this was built with (IMAGE_JPEG ..). A translation unit of its own, linked only into models that call it, as are the libraries.
 *
 * Every decoder gives 8 bits per channel, red, green, blue; an alpha channel is dropped, no colour profile is applied. Sizes are those
 * of the file's header, checked before memory is taken. */
#include "call_internal.h"
#include "call.c"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef IMAGE_JPEG
#include <jpeglib.h>
#endif
#ifdef IMAGE_PNG
#include <png.h>
#endif
#ifdef IMAGE_WEBP
#include <webp/decode.h>
#endif
#ifdef IMAGE_TIFF
#include <tiffio.h>
#endif
#ifdef IMAGE_JP2
#include <openjpeg.h>
#endif

enum { PIXELS_MAX = 1 << 27 };

typedef struct Image {
    rt_call *c;
    const uint8_t *p;           /* the file */
    size_t n;
    int64_t width, height;
    uint8_t *rgb;
} Image;

/* Memory for that many pixels. */
static bool image_size(Image *m, int64_t width, int64_t height)
{
    if (width < 1 || height < 1 || width > PIXELS_MAX / height)
        return call_fail(m->c, "an image of %lld by %lld pixels", (long long)width, (long long)height);
    m->width = width;
    m->height = height;
    return (m->rgb = call_alloc(m->c, width * height, 3)) != NULL;
}

static bool image_bad(Image *m, const char *format, const char *why) { return call_fail(m->c, "%s: %s", format, why); }

/* ---- BMP, PNM */

static uint32_t le(const uint8_t *p, int n)
{
    uint32_t v = 0;
    while (n--)
        v = v << 8 | p[n];
    return v;
}

/* A channel of a pixel of 16 or 32 bits, scaled to 8 bits. */
static uint8_t masked(uint32_t pixel, uint32_t mask)
{
    if (!mask)
        return 0;
    int low = __builtin_ctz(mask);
    uint64_t top = mask >> low;
    return (uint8_t)(((pixel & mask) >> low) * (uint64_t)255 / top);
}

static bool bmp(Image *m)
{
    if (m->n < 54)
        return image_bad(m, "bmp", "the file is cut off");
    uint32_t data = le(m->p + 10, 4), head = le(m->p + 14, 4), bits = le(m->p + 28, 2), packed = le(m->p + 30, 4), colours = le(m->p + 46, 4);
    int32_t w = (int32_t)le(m->p + 18, 4), h = (int32_t)le(m->p + 22, 4);
    bool down = h < 0;
    uint32_t mask[3] = {0x7C00, 0x3E0, 0x1F};
    if (head < 40 || (packed != 0 && packed != 3) || (bits != 1 && bits != 4 && bits != 8 && bits != 16 && bits != 24 && bits != 32) ||
        h == INT32_MIN || w < 1)
        return image_bad(m, "bmp", "a kind of file that is not supported");
    if (bits == 32) {
        mask[0] = 0xFF0000;
        mask[1] = 0xFF00;
        mask[2] = 0xFF;
    }
    if (packed == 3) {
        if (m->n < 66)
            return image_bad(m, "bmp", "the file is cut off");
        for (int k = 0; k < 3; k++)
            mask[k] = le(m->p + 54 + 4 * k, 4);
    }
    uint64_t row = ((uint64_t)w * bits + 31) / 32 * 4, rows = (uint64_t)(down ? -(int64_t)h : h), table = 14 + (uint64_t)head;
    if (colours == 0 || colours > 256)
        colours = bits <= 8 ? 1u << bits : 0;
    if (data > m->n || row * rows > m->n - data || (bits <= 8 && table + 4 * (uint64_t)colours > m->n))
        return image_bad(m, "bmp", "the file is cut off");
    if (!image_size(m, w, (int64_t)rows))
        return false;
    uint8_t *to = m->rgb;
    for (uint64_t y = 0; y < rows; y++) {
        const uint8_t *from = m->p + data + row * (down ? y : rows - 1 - y);
        for (int32_t x = 0; x < w; x++, to += 3) {
            if (bits >= 24 && packed == 0) {
                const uint8_t *q = from + (size_t)x * (bits / 8);
                to[0] = q[2], to[1] = q[1], to[2] = q[0];
            } else if (bits >= 16) {
                uint32_t v = le(from + (size_t)x * (bits / 8), (int)bits / 8);
                for (int k = 0; k < 3; k++)
                    to[k] = masked(v, mask[k]);
            } else {
                uint32_t at = (uint32_t)x * bits, v = from[at / 8] >> (8 - bits - at % 8) & ((1u << bits) - 1);
                const uint8_t *q = m->p + table + 4 * (v < colours ? v : 0);
                to[0] = q[2], to[1] = q[1], to[2] = q[0];
            }
        }
    }
    return true;
}

/* The next number of a PNM header or of plain data, after white space and comments. */
static bool pnm_number(Image *m, size_t *at, int64_t *v)
{
    while (*at < m->n && (m->p[*at] == '#' || m->p[*at] <= ' ')) {
        if (m->p[*at] == '#')
            while (*at < m->n && m->p[*at] != '\n')
                ++*at;
        else
            ++*at;
    }
    size_t from = *at;
    for (*v = 0; *at < m->n && m->p[*at] >= '0' && m->p[*at] <= '9' && *v < INT32_MAX; ++*at)
        *v = *v * 10 + (m->p[*at] - '0');
    return *at > from;
}

static bool pnm(Image *m)
{
    int kind = m->p[1] - '0', channels = kind == 3 || kind == 6 ? 3 : 1;
    bool plain = kind <= 3, bitmap = kind == 1 || kind == 4;
    size_t at = 2;
    int64_t w, h, max = 1, v;
    if (!pnm_number(m, &at, &w) || !pnm_number(m, &at, &h) || (!bitmap && !pnm_number(m, &at, &max)) || max < 1 || max > 65535)
        return image_bad(m, "pnm", "a bad header");
    at++;
    int64_t wide = max > 255 ? 2 : 1, row = bitmap ? (w + 7) / 8 : w * channels * wide;
    if (!image_size(m, w, h))
        return false;
    if (!plain && (at > m->n || row * h > (int64_t)(m->n - at)))
        return image_bad(m, "pnm", "the file is cut off");
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            uint8_t *to = m->rgb + (y * w + x) * 3;
            for (int k = 0; k < channels; k++) {
                const uint8_t *p = m->p + at + y * row;
                if (plain && bitmap) {
                    while (at < m->n && m->p[at] <= ' ')
                        at++;
                    if (at == m->n)
                        return image_bad(m, "pnm", "the file is cut off");
                    v = m->p[at++] != '0';
                } else if (plain) {
                    if (!pnm_number(m, &at, &v))
                        return image_bad(m, "pnm", "the file is cut off");
                } else if (bitmap) {
                    v = p[x / 8] >> (7 - x % 8) & 1;
                } else {
                    p += (x * channels + k) * wide;
                    v = wide == 2 ? p[0] << 8 | p[1] : p[0];
                }
                v = bitmap ? (v ? 0 : 255) : max == 255 ? v : (v * 255 + max / 2) / max;
                to[k] = (uint8_t)(v > 255 ? 255 : v);
            }
            if (channels == 1)
                to[1] = to[2] = to[0];
        }
    return true;
}

/* ---- by libraries */

#ifdef IMAGE_JPEG
typedef struct JpegError { struct jpeg_error_mgr mgr; jmp_buf out; char text[JMSG_LENGTH_MAX]; } JpegError;

static void jpeg_error(j_common_ptr p)
{
    JpegError *e = (JpegError *)p->err;
    e->mgr.format_message(p, e->text);
    longjmp(e->out, 1);
}

static void jpeg_silent(j_common_ptr p) { (void)p; }

static bool jpeg(Image *m)
{
    struct jpeg_decompress_struct d;
    JpegError e;
    d.err = jpeg_std_error(&e.mgr);
    e.mgr.error_exit = jpeg_error;
    e.mgr.output_message = jpeg_silent;
    if (setjmp(e.out)) {
        jpeg_destroy_decompress(&d);
        return image_bad(m, "jpeg", e.text);
    }
    jpeg_create_decompress(&d);
    d.mem->max_memory_to_use = 1l << 30;
    jpeg_mem_src(&d, m->p, m->n);
    jpeg_read_header(&d, TRUE);
    bool inks = d.jpeg_color_space == JCS_CMYK || d.jpeg_color_space == JCS_YCCK;
    d.out_color_space = inks ? JCS_CMYK : JCS_RGB;
    bool ok = image_size(m, d.image_width, d.image_height);
    uint8_t *row = ok && inks ? call_alloc(m->c, m->width, 4) : NULL;
    ok = ok && (!inks || row);
    if (ok)
        jpeg_start_decompress(&d);
    while (ok && d.output_scanline < d.output_height) {
        uint8_t *to = m->rgb + (int64_t)d.output_scanline * m->width * 3;
        JSAMPROW line = inks ? row : to;
        jpeg_read_scanlines(&d, &line, 1);
        for (int64_t x = 0; inks && x < m->width; x++)  /* as Adobe stores them, inverted */
            for (int k = 0; k < 3; k++)
                to[3 * x + k] = (uint8_t)(row[4 * x + k] * row[4 * x + 3] / 255);
    }
    jpeg_destroy_decompress(&d);
    return ok;
}
#endif

#ifdef IMAGE_PNG
typedef struct PngFile { Image *m; size_t at; jmp_buf out; char text[128]; } PngFile;

static void png_failed(png_structp png, png_const_charp why)
{
    PngFile *f = png_get_error_ptr(png);
    snprintf(f->text, sizeof f->text, "%s", why);
    longjmp(f->out, 1);
}

static void png_silent(png_structp png, png_const_charp why) { (void)png, (void)why; }

static void png_bytes(png_structp png, png_bytep to, size_t n)
{
    PngFile *f = png_get_io_ptr(png);
    if (n > f->m->n - f->at)
        png_error(png, "the file is cut off");
    memcpy(to, f->m->p + f->at, n);
    f->at += n;
}

static bool png(Image *m)
{
    PngFile f = {.m = m};
    png_structp volatile p = NULL;
    png_infop volatile info = NULL;
    if (setjmp(f.out)) {
        png_structp q = p;
        png_infop i = info;
        png_destroy_read_struct(&q, &i, NULL);
        return image_bad(m, "png", f.text);
    }
    p = png_create_read_struct(PNG_LIBPNG_VER_STRING, &f, png_failed, png_silent);
    info = p ? png_create_info_struct(p) : NULL;
    if (!info)
        png_failed(p, "no memory");
    png_set_user_limits(p, PIXELS_MAX, PIXELS_MAX);
    png_set_read_fn(p, &f, png_bytes);
    png_read_info(p, info);
    png_set_expand(p);
    png_set_scale_16(p);
    png_set_gray_to_rgb(p);
    png_set_strip_alpha(p);
    int passes = png_set_interlace_handling(p);
    png_read_update_info(p, info);
    bool ok = image_size(m, png_get_image_width(p, info), png_get_image_height(p, info));
    if (ok && png_get_rowbytes(p, info) != (size_t)m->width * 3)
        png_error(p, "a kind of file that is not supported");
    for (int k = 0; ok && k < passes; k++)
        for (int64_t y = 0; y < m->height; y++)
            png_read_row(p, m->rgb + y * m->width * 3, NULL);
    png_structp q = p;
    png_infop i = info;
    png_destroy_read_struct(&q, &i, NULL);
    return ok;
}
#endif

#ifdef IMAGE_WEBP
static bool webp(Image *m)
{
    int w, h;
    if (!WebPGetInfo(m->p, m->n, &w, &h))
        return image_bad(m, "webp", "a bad header");
    if (!image_size(m, w, h))
        return false;
    return WebPDecodeRGBInto(m->p, m->n, m->rgb, (size_t)w * (size_t)h * 3, 3 * w) || image_bad(m, "webp", "damaged data");
}
#endif

#ifdef IMAGE_TIFF
typedef struct TiffFile { Image *m; toff_t at; } TiffFile;

static tmsize_t tiff_read(thandle_t h, void *to, tmsize_t n)
{
    TiffFile *f = h;
    if (n < 0 || f->at > f->m->n)
        return -1;
    tmsize_t left = (tmsize_t)(f->m->n - f->at);
    n = n < left ? n : left;
    if (n)
        memcpy(to, f->m->p + f->at, (size_t)n);
    f->at += (toff_t)n;
    return n;
}

static tmsize_t tiff_write(thandle_t h, void *p, tmsize_t n) { return (void)h, (void)p, (void)n, -1; }
static toff_t tiff_seek(thandle_t h, toff_t to, int from)
{
    TiffFile *f = h;
    return f->at = from == SEEK_SET ? to : from == SEEK_CUR ? f->at + to : f->m->n + to;
}
static int tiff_close(thandle_t h) { return (void)h, 0; }
static toff_t tiff_size(thandle_t h) { return ((TiffFile *)h)->m->n; }
static int tiff_map(thandle_t h, void **p, toff_t *n) { return (void)h, (void)p, (void)n, 0; }
static int tiff_silent(TIFF *t, void *data, const char *module, const char *fmt, va_list ap)
{
    return (void)t, (void)data, (void)module, (void)fmt, (void)ap, 1;
}
static void tiff_unmap(thandle_t h, void *p, toff_t n) { (void)h, (void)p, (void)n; }

static bool tiff(Image *m)
{
    TiffFile f = {.m = m};
    uint32_t w = 0, h = 0;
    TIFFOpenOptions *o = TIFFOpenOptionsAlloc();
    if (!o)
        return image_bad(m, "tiff", "no memory");
    TIFFOpenOptionsSetErrorHandlerExtR(o, tiff_silent, NULL);
    TIFFOpenOptionsSetWarningHandlerExtR(o, tiff_silent, NULL);
    TIFF *t = TIFFClientOpenExt("image", "rm", &f, tiff_read, tiff_write, tiff_seek, tiff_close, tiff_size, tiff_map, tiff_unmap, o);
    TIFFOpenOptionsFree(o);
    bool ok = t && TIFFGetField(t, TIFFTAG_IMAGEWIDTH, &w) && TIFFGetField(t, TIFFTAG_IMAGELENGTH, &h);
    ok = ok ? image_size(m, w, h) : image_bad(m, "tiff", "a bad header");
    uint32_t *rgba = ok ? call_alloc(m->c, m->width * m->height, sizeof *rgba) : NULL;
    ok = rgba && (TIFFReadRGBAImageOriented(t, w, h, rgba, ORIENTATION_TOPLEFT, 1) || image_bad(m, "tiff", "damaged data"));
    for (int64_t i = 0; ok && i < m->width * m->height; i++) {
        m->rgb[3 * i] = (uint8_t)TIFFGetR(rgba[i]);
        m->rgb[3 * i + 1] = (uint8_t)TIFFGetG(rgba[i]);
        m->rgb[3 * i + 2] = (uint8_t)TIFFGetB(rgba[i]);
    }
    if (t)
        TIFFClose(t);
    return ok;
}
#endif

#ifdef IMAGE_JP2
typedef struct Jp2File { const Image *m; size_t at; } Jp2File;

static OPJ_SIZE_T jp2_read(void *to, OPJ_SIZE_T n, void *data)
{
    Jp2File *f = data;
    size_t left = f->m->n - f->at;
    n = n < left ? n : left;
    if (!n)
        return (OPJ_SIZE_T)-1;
    memcpy(to, f->m->p + f->at, n);
    f->at += n;
    return n;
}

static OPJ_OFF_T jp2_skip(OPJ_OFF_T n, void *data)
{
    Jp2File *f = data;
    if (n < 0 || (size_t)n > f->m->n - f->at)
        return -1;
    f->at += (size_t)n;
    return n;
}

static OPJ_BOOL jp2_seek(OPJ_OFF_T to, void *data)
{
    Jp2File *f = data;
    if (to < 0 || (size_t)to > f->m->n)
        return OPJ_FALSE;
    f->at = (size_t)to;
    return OPJ_TRUE;
}

/* Sample k of a component, as 8 bits. */
static int jp2_sample(const opj_image_comp_t *q, int64_t i)
{
    int64_t v = q->data[i] + (q->sgnd ? (int64_t)1 << (q->prec - 1) : 0);
    v = q->prec > 8 ? v >> (q->prec - 8) : q->prec < 8 ? v * 255 / ((1 << q->prec) - 1) : v;
    return v < 0 ? 0 : v > 255 ? 255 : (int)v;
}

static bool jp2_pixels(Image *m, const opj_image_t *o)
{
    int used = o->numcomps >= 3 ? 3 : 1;
    for (int k = 0; k < used; k++) {
        const opj_image_comp_t *q = &o->comps[k];
        if (q->w != o->comps[0].w || q->h != o->comps[0].h || !q->data || q->prec < 1 || q->prec > 31)
            return image_bad(m, "jpeg2000", "components of different sizes are not supported");
    }
    if (!image_size(m, o->comps[0].w, o->comps[0].h))
        return false;
    for (int64_t i = 0; i < m->width * m->height; i++) {
        uint8_t *to = m->rgb + 3 * i;
        int v[3];
        for (int k = 0; k < 3; k++)
            v[k] = jp2_sample(&o->comps[k < used ? k : 0], i);
        if (used == 3 && o->color_space == OPJ_CLRSPC_SYCC) {
            double y = v[0], b = v[1] - 128, r = v[2] - 128, rgb[3] = {y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b};
            for (int k = 0; k < 3; k++)
                v[k] = rgb[k] < 0 ? 0 : rgb[k] > 255 ? 255 : (int)(rgb[k] + 0.5);
        }
        for (int k = 0; k < 3; k++)
            to[k] = (uint8_t)v[k];
    }
    return true;
}

static bool jp2(Image *m)
{
    Jp2File f = {.m = m};
    opj_dparameters_t how;
    opj_image_t *o = NULL;
    bool boxed = m->p[0] == 0;
    opj_set_default_decoder_parameters(&how);
    opj_codec_t *codec = opj_create_decompress(boxed ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K);
    opj_stream_t *s = opj_stream_default_create(OPJ_TRUE);
    bool ok = codec && s && opj_setup_decoder(codec, &how);
    if (s) {
        opj_stream_set_user_data(s, &f, NULL);
        opj_stream_set_user_data_length(s, m->n);
        opj_stream_set_read_function(s, jp2_read);
        opj_stream_set_skip_function(s, jp2_skip);
        opj_stream_set_seek_function(s, jp2_seek);
    }
    ok = ok && opj_read_header(s, codec, &o) && o->numcomps >= 1;
    int64_t w = ok ? (int64_t)o->x1 - o->x0 : 0, h = ok ? (int64_t)o->y1 - o->y0 : 0;
    ok = ok ? (w > 0 && h > 0 && w <= PIXELS_MAX / h) || image_bad(m, "jpeg2000", "too large") : image_bad(m, "jpeg2000", "a bad header");
    if (ok && !(opj_decode(codec, s, o) && opj_end_decompress(codec, s)))
        ok = image_bad(m, "jpeg2000", "damaged data");
    ok = ok && jp2_pixels(m, o);
    if (o)
        opj_image_destroy(o);
    if (codec)
        opj_destroy_codec(codec);
    if (s)
        opj_stream_destroy(s);
    return ok;
}
#endif

/* ---- formats, by the first bytes of a file */

#ifndef IMAGE_JPEG
#define jpeg NULL
#endif
#ifndef IMAGE_PNG
#define png NULL
#endif
#ifndef IMAGE_WEBP
#define webp NULL
#endif
#ifndef IMAGE_TIFF
#define tiff NULL
#endif
#ifndef IMAGE_JP2
#define jp2 NULL
#endif

static const struct { const char *magic; uint8_t at, n; const char *name; bool (*read)(Image *m); } formats[] = {
    {"\xFF\xD8\xFF", 0, 3, "jpeg", jpeg}, {"\x89PNG\r\n\x1A\n", 0, 8, "png", png}, {"WEBP", 8, 4, "webp", webp},
    {"II*\0", 0, 4, "tiff", tiff}, {"MM\0*", 0, 4, "tiff", tiff}, {"\0\0\0\x0CjP  ", 0, 8, "jpeg2000", jp2},
    {"\xFF\x4F\xFF\x51", 0, 4, "jpeg2000", jp2}, {"BM", 0, 2, "bmp", bmp}, {"P1", 0, 2, "pnm", pnm}, {"P2", 0, 2, "pnm", pnm},
    {"P3", 0, 2, "pnm", pnm}, {"P4", 0, 2, "pnm", pnm}, {"P5", 0, 2, "pnm", pnm}, {"P6", 0, 2, "pnm", pnm},
};

enum { AS_RGB, AS_BGR, AS_GREY };

/* (file u8[n], order i64[]: 0 RGB, 1 BGR, 2 grey) -> u8[height, width, 3 or 1]; grey is 0.299 R + 0.587 G + 0.114 B, rounded */
CALL_FN(image_decode)
{
    const rt_value *x = tensor_operand(c, 0, DT_U8);
    int64_t order;
    if (!x || !call_int(c, c->in[1], "order", &order))
        return false;
    Image m = {.c = c, .p = x->data, .n = (size_t)call_count(x)};
    size_t k = 0, nf = sizeof formats / sizeof *formats;
    while (k < nf && (m.n < (size_t)formats[k].at + formats[k].n || memcmp(m.p + formats[k].at, formats[k].magic, formats[k].n)))
        k++;
    if (k == nf)
        return call_fail(c, "an image of no known format");
    if (!formats[k].read)
        return call_fail(c, "%s images: this compiler was built without the library", formats[k].name);
    if (!formats[k].read(&m))
        return false;
    int64_t n = m.width * m.height, dims[3] = {m.height, m.width, order == AS_GREY ? 1 : 3};
    rt_value *y = c->out[0] = call_tensor(c, DT_U8, 3, dims);
    uint8_t *to = y ? y->data : NULL;
    for (int64_t i = 0; to && i < n; i++) {
        const uint8_t *p = m.rgb + 3 * i;
        if (order == AS_GREY) {
            to[i] = (uint8_t)((p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 0x8000) >> 16);
        } else {
            to[3 * i] = p[order == AS_BGR ? 2 : 0];
            to[3 * i + 1] = p[1];
            to[3 * i + 2] = p[order == AS_BGR ? 0 : 2];
        }
    }
    return y != NULL;
}
