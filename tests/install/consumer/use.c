/* Classifies the image in argv[1] (raw floats behind 128 bytes of .npy header) with both models; they must agree. */
#include <digits.h>
#include <single.h>
#include <stdio.h>
#include <string.h>

static int classify(const accelc_api *api, float *image) {
    accelc_config config;
    accelc_session *session;
    accelc_value in, out;
    char message[200];
    const int64_t dims[4] = {1, 1, 8, 8};
    float probability[10];
    int best = 0, i;
    memset(&config, 0, sizeof config);
    memset(&in, 0, sizeof in);
    memset(&out, 0, sizeof out);
    config.size = sizeof config;
    if (api->create(&config, &session, message, sizeof message) != ACCELC_OK) {
        fprintf(stderr, "%s\n", message);
        return -1;
    }
    in.kind = ACCELC_TENSOR;
    in.dtype = 1; /* float */
    in.rank = 4;
    in.dims = dims;
    in.data = image;
    in.bytes = 64 * sizeof(float);
    out.data = probability;
    out.bytes = sizeof probability;
    if (api->run(session, &in, &out) != ACCELC_OK) {
        fprintf(stderr, "%s\n", api->error(session));
        best = -1;
    } else {
        for (i = 1; i < 10; i++)
            if (probability[i] > probability[best]) best = i;
    }
    api->destroy(session);
    return best;
}

int main(int argc, char **argv) {
    float image[64];
    FILE *f = argc > 1 ? fopen(argv[1], "rb") : NULL;
    int a, b;
    if (!f || fseek(f, 128, SEEK_SET) || fread(image, sizeof image, 1, f) != 1) return 2;
    fclose(f);
    a = classify(digits_accelc(), image);
    b = classify(single_accelc(), image);
    printf("%d %d %s %d\n", a, b, single_accelc()->desc->name, (int)SINGLE_IN0_BYTES);
    return a < 0 || b < 0;
}
