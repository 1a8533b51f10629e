// Which parts of a frame differ from another one, and the rectangles in which their results are computed again.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace aether {

constexpr int PLANES = 3;

/// Pixels from (left, top) to before (right, bottom).
struct Rect {
    int left, top, right, bottom;

    int64_t area() const { return static_cast<int64_t>(right - left) * (bottom - top); }
    Rect grown(int by, int width, int height) const {
        return {std::max(left - by, 0), std::max(top - by, 0), std::min(right + by, width),
                std::min(bottom + by, height)};
    }
    Rect with(const Rect &other) const {
        return {std::min(left, other.left), std::min(top, other.top), std::max(right, other.right),
                std::max(bottom, other.bottom)};
    }
};

/// Three planes of width x height floats; the stride is in floats.
struct Picture3 {
    const float *planes[PLANES];
    ptrdiff_t stride;
};

/// Rectangles that cover whatever differs in any bit between two pictures, few enough and chosen so that computing
/// each with `reach` pixels more on every side is little work together. None: the pictures are equal. One that is the
/// whole: nothing less is worth it.
class Changes {
  public:
    Changes(const Picture3 &a, const Picture3 &b, int width, int height, int reach)
        : width_(width), height_(height), reach_(reach) {
        const Rect whole = {0, 0, width, height};
        for (int top = 0; top < height; top += BLOCK)
            for (int left = 0; left < width; left += BLOCK) {
                const Rect block = {left, top, std::min(left + BLOCK, width), std::min(top + BLOCK, height)};
                if (equal(a, b, block))
                    continue;
                add(block);
                if (rects_.size() > MOST || work() * WORTH >= whole.area()) {
                    rects_.assign(1, whole);
                    return;
                }
            }
    }

    const std::vector<Rect> &rects() const { return rects_; }
    /// Input pixels that are computed for all of them.
    int64_t work() const {
        int64_t sum = 0;
        for (const Rect &r : rects_)
            sum += cost(r);
        return sum;
    }

  private:
    static constexpr int BLOCK = 16;      // a cache line of floats
    static constexpr size_t MOST = 16;    // rectangles
    static constexpr double WORTH = 1.25; // a smaller picture takes longer a pixel

    static bool equal(const Picture3 &a, const Picture3 &b, const Rect &block) {
        const size_t bytes = sizeof(float) * static_cast<size_t>(block.right - block.left);
        for (int plane = 0; plane < PLANES; plane++)
            for (int y = block.top; y < block.bottom; y++)
                if (std::memcmp(a.planes[plane] + y * a.stride + block.left,
                                b.planes[plane] + y * b.stride + block.left, bytes) != 0)
                    return false;
        return true;
    }

    int64_t cost(const Rect &r) const { return r.grown(reach_, width_, height_).area(); }

    // Rectangles become one where that is no more work than both.
    void add(Rect added) {
        for (size_t i = 0; i < rects_.size();) {
            const Rect both = rects_[i].with(added);
            if (cost(both) <= cost(rects_[i]) + cost(added)) {
                added = both;
                rects_.erase(rects_.begin() + static_cast<ptrdiff_t>(i));
                i = 0;
            } else {
                i++;
            }
        }
        rects_.push_back(added);
    }

    int width_, height_, reach_;
    std::vector<Rect> rects_;
};

} // namespace aether
