// Runs networks of random weights in every form of the kernels, with one thread and with three, and compares the output
// with the plain form's, to the bit. Built by test_native.py under AddressSanitizer and UBSan. AVX-VNNI's kernels are
// compiled in AVX-512's encoding of the same instruction, so that a processor without AVX-VNNI runs them too.
//
//     native_forms blob... : one line a form and blob; returns 1 where a byte differs
#include "form.hpp"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <random>
#include <vector>

using namespace aether;

namespace {

struct Frame {
    int width, height;
    std::vector<float> planes[3];

    Frame(int w, int h) : width(w), height(h) {
        for (auto &plane : planes)
            plane.assign(static_cast<size_t>(w) * h, std::numeric_limits<float>::quiet_NaN());
    }
    bool operator==(const Frame &other) const {
        for (int i = 0; i < 3; i++)
            if (std::memcmp(planes[i].data(), other.planes[i].data(), planes[i].size() * sizeof(float)) != 0)
                return false;
        return true;
    }
};

Frame noise(int width, int height) {
    Frame frame(width, height);
    std::mt19937 random(static_cast<unsigned>(width * 1000 + height));
    std::uniform_real_distribution<float> range(-0.2F, 1.2F);
    for (auto &plane : frame.planes)
        for (float &v : plane)
            v = range(random);
    if (width * height > 4) {
        frame.planes[0][1] = std::numeric_limits<float>::quiet_NaN();
        frame.planes[1][2] = std::numeric_limits<float>::infinity();
        frame.planes[2][3] = -std::numeric_limits<float>::infinity();
    }
    return frame;
}

Frame compute(Form &form, const Frame &in, int scale, int threads) {
    Frame out(in.width * scale, in.height * scale);
    const Picture picture = {{in.planes[0].data(), in.planes[1].data(), in.planes[2].data()},
                             in.width,
                             {out.planes[0].data(), out.planes[1].data(), out.planes[2].data()},
                             out.width,
                             in.width,
                             in.height};
    Workers workers(threads);
    form.run(picture, workers);
    return out;
}

struct Candidate {
    const char *name;
    MakeForm *make;
    bool runs_here;
};

} // namespace

int main(int count, char **paths) {
    const Candidate candidates[] = {
        {"plain", make_plain, true},
#if defined(__x86_64__)
        {"avx2", make_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
        {"avx_vnni", make_avx_vnni, static_cast<bool>(__builtin_cpu_supports("avx512vnni"))},
        {"avx512_vnni", make_avx512_vnni, static_cast<bool>(__builtin_cpu_supports("avx512vnni"))},
#endif
    };
    const int sizes[][2] = {{1, 1}, {1, 9}, {9, 1}, {13, 4}, {31, 10}};
    int differences = 0;
    for (int i = 1; i < count; i++) {
        std::ifstream file(paths[i], std::ios::binary);
        const std::vector<char> blob{std::istreambuf_iterator<char>(file), {}};
        const Model model = read_model(blob.data(), blob.size());
        const std::unique_ptr<Form> plain(make_plain(model));
        std::vector<Frame> pictures, expected;
        for (const auto &size : sizes) {
            pictures.push_back(noise(size[0], size[1]));
            expected.push_back(compute(*plain, pictures.back(), model.scale, 1));
        }
        for (const Candidate &candidate : candidates) {
            int same = 0, all = 0;
            if (candidate.runs_here) {
                const std::unique_ptr<Form> form(candidate.make(model));
                for (size_t n = 0; n < pictures.size(); n++)
                    for (int threads : {1, 3}) {
                        all++;
                        same += compute(*form, pictures[n], model.scale, threads) == expected[n];
                    }
            }
            differences += all - same;
            std::printf("%s %s %s\n", paths[i], candidate.name, !all ? "not run" : same == all ? "same" : "DIFFERENT");
        }
    }
    return differences != 0;
}
