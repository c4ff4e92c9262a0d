// The same program as use.c, from C++.
#include <digits.h>
#include <single.h>

#include <algorithm>
#include <cstdio>
#include <vector>

static int classify(const accelc_api *api, std::vector<float> &image) {
    accelc_config config{};
    config.size = sizeof config;
    accelc_session *session;
    char message[200];
    if (api->create(&config, &session, message, sizeof message) != ACCELC_OK) {
        std::fprintf(stderr, "%s\n", message);
        return -1;
    }
    const int64_t dims[] = {1, 1, 8, 8};
    accelc_value in{}, out{};
    in.kind = ACCELC_TENSOR;
    in.dtype = api->desc->in[0].dtype;
    in.rank = 4;
    in.dims = dims;
    in.data = image.data();
    in.bytes = image.size() * sizeof(float);
    int best = -1;
    if (api->run(session, &in, &out) == ACCELC_OK) { // the session's own buffer
        const float *p = static_cast<const float *>(out.data);
        best = int(std::max_element(p, p + 10) - p);
    } else {
        std::fprintf(stderr, "%s\n", api->error(session));
    }
    api->destroy(session);
    return best;
}

int main(int argc, char **argv) {
    std::vector<float> image(64);
    std::FILE *f = argc > 1 ? std::fopen(argv[1], "rb") : nullptr;
    if (!f || std::fseek(f, 128, SEEK_SET) || std::fread(image.data(), 4, 64, f) != 64) return 2;
    std::fclose(f);
    int a = classify(digits_accelc(), image), b = classify(single_accelc(), image);
    std::printf("%d %d %s %d\n", a, b, single_accelc()->desc->name, int(SINGLE_IN0_BYTES));
    return a < 0 || b < 0;
}
