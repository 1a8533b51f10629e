/*
 * core.aether.Reuse(clip, result, bytes, props, pixels): the frames of `result`, which is some filter of `clip` that
 * makes of each frame one of its own, whatever its number: of frames of clip that are equal in every bit, one alone is
 * asked of it. `props` are the frame properties which have a part in that: whole numbers. A frame comes out with those of
 * the result, and with all others of its own. `pixels` are counted for each frame that need not be computed; without,
 * the frame's own are counted, and asked for.
 * core.aether.Reused(): input pixels asked for, and of these the ones that need not be computed, since the process
 * began.
 *
 * Equal are frames whose samples are compared and found equal; a hash only says which to compare. So what is kept, for
 * how long, and in which order frames are asked for decide about the work, and not about the result. Kept are
 * references to frames, of up to so many bytes, those that were met last; nothing is copied.
 */
#include "reuse.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <list>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace {

std::atomic<int64_t> asked_pixels{0}, reused_pixels{0};

/// Four sums side by side, so that a multiplication need not wait for the one before.
class Hash {
  public:
    void add(const uint8_t *data, size_t size) {
        uint64_t word[LANES];
        for (; size >= sizeof word; data += sizeof word, size -= sizeof word) {
            std::memcpy(word, data, sizeof word);
            mix(word);
        }
        if (size) {
            std::memset(word, 0, sizeof word);
            std::memcpy(word, data, size);
            mix(word);
        }
    }
    uint64_t value() const {
        uint64_t sum = 0;
        for (uint64_t lane : sums_)
            sum = turn((sum ^ lane) * FACTOR);
        return sum;
    }

  private:
    static constexpr int LANES = 4;
    static constexpr uint64_t FACTOR = 0x9E3779B97F4A7C15; // 2^64 / the golden ratio, odd
    static uint64_t turn(uint64_t x) { return x ^ x >> 29; }
    void mix(const uint64_t *word) {
        for (int i = 0; i < LANES; i++)
            sums_[i] = turn((sums_[i] ^ word[i]) * FACTOR);
    }
    uint64_t sums_[LANES] = {1, 2, 3, 4};
};

struct Samples {
    const VSFrame *frame;
    const VSAPI *api;

    template <class F> bool each_row(F f) const {
        const VSVideoFormat *format = api->getVideoFrameFormat(frame);
        for (int plane = 0; plane < format->numPlanes; plane++) {
            const size_t bytes = static_cast<size_t>(api->getFrameWidth(frame, plane)) * format->bytesPerSample;
            const uint8_t *row = api->getReadPtr(frame, plane);
            for (int y = 0; y < api->getFrameHeight(frame, plane); y++, row += api->getStride(frame, plane))
                if (!f(plane, y, row, bytes))
                    return false;
        }
        return true;
    }
    uint64_t hash() const {
        Hash sum;
        each_row([&](int, int, const uint8_t *row, size_t bytes) {
            sum.add(row, bytes);
            return true;
        });
        return sum.value();
    }
    bool operator==(const Samples &other) const {
        return frame == other.frame || each_row([&](int plane, int y, const uint8_t *row, size_t bytes) {
                   const uint8_t *its = api->getReadPtr(other.frame, plane) + y * api->getStride(other.frame, plane);
                   return std::memcmp(row, its, bytes) == 0;
               });
    }
    int64_t bytes() const {
        int64_t sum = 0;
        each_row([&](int, int, const uint8_t *, size_t bytes) {
            sum += static_cast<int64_t>(bytes);
            return true;
        });
        return sum;
    }
};

using Keys = std::vector<std::string>;

/// A property's whole numbers; null, and a count of 0, where there are none.
const int64_t *numbers(const VSMap *props, const std::string &key, int &count, const VSAPI *api) {
    int absent = 0;
    const int64_t *values = api->mapGetIntArray(props, key.c_str(), &absent);
    count = absent ? 0 : api->mapNumElements(props, key.c_str());
    return count ? values : nullptr;
}

bool same_numbers(const VSFrame *a, const VSFrame *b, const Keys &keys, const VSAPI *api) {
    const VSMap *one = api->getFramePropertiesRO(a), *other = api->getFramePropertiesRO(b);
    for (const std::string &key : keys) {
        int count = 0, its_count = 0;
        const int64_t *values = numbers(one, key, count, api), *its = numbers(other, key, its_count, api);
        if (count != its_count || !std::equal(values, values + count, its))
            return false;
    }
    return true;
}

struct Entry {
    uint64_t hash;
    int number;             // the frame that is computed for all which equal it
    const VSFrame *source;
    const VSFrame *result;  // null while it is being computed
};

class Reuse {
  public:
    Reuse(VSNode *clip, VSNode *result, int64_t bytes, Keys props, int64_t pixels, const VSAPI *api)
        : clip(clip), result(result), props(std::move(props)), pixels_(pixels), limit_(bytes), api_(api) {}
    ~Reuse() {
        for (Entry &entry : entries_)
            release(entry);
        api_->freeNode(clip);
        api_->freeNode(result);
    }
    Reuse(const Reuse &) = delete;
    Reuse &operator=(const Reuse &) = delete;

    VSNode *const clip, *const result;
    const Keys props;

    void count(const VSFrame *source, bool reused) const {
        const int64_t own = static_cast<int64_t>(api_->getFrameWidth(source, 0)) * api_->getFrameHeight(source, 0);
        if (!pixels_)
            aether_count(own, reused ? own : 0);
        else if (reused)
            aether_count(pixels_, pixels_);
    }

    /// The result of an equal frame, a reference for the caller, or null; then `number` is the frame to ask for.
    const VSFrame *find(int n, const VSFrame *source, int &number) {
        const Samples samples{source, api_};
        const uint64_t hash = samples.hash();
        std::lock_guard<std::mutex> lock(mutex_);
        const auto range = found_.equal_range(hash);
        for (auto each = range.first; each != range.second; ++each) {
            const auto entry = each->second;
            if (!same_numbers(source, entry->source, props, api_) || !(samples == Samples{entry->source, api_}))
                continue;
            entries_.splice(entries_.begin(), entries_, entry);
            number = entry->number;
            return entry->result ? api_->addFrameRef(entry->result) : nullptr;
        }
        number = n;
        entries_.push_front({hash, n, api_->addFrameRef(source), nullptr});
        found_.emplace(hash, entries_.begin());
        return nullptr;
    }

    /// Frame n is computed; null where it could not be.
    void put(int n, const VSFrame *source, const VSFrame *computed) {
        std::lock_guard<std::mutex> lock(mutex_);
        for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
            if (entry->number != n || entry->result)
                continue;
            if (!computed) {
                drop(entry);
                return;
            }
            entry->result = api_->addFrameRef(computed);
            size_ = Samples{source, api_}.bytes() + Samples{computed, api_}.bytes();
            kept_ += size_;
            break;
        }
        for (auto entry = entries_.end(); kept_ > limit_ && entry != entries_.begin();) {
            --entry;
            if (entry->result && entry != entries_.begin())
                entry = drop(entry);
        }
    }

  private:
    using Entries = std::list<Entry>;

    Entries::iterator drop(Entries::iterator entry) {
        const auto range = found_.equal_range(entry->hash);
        for (auto each = range.first; each != range.second; ++each)
            if (each->second == entry) {
                found_.erase(each);
                break;
            }
        if (entry->result)
            kept_ -= size_;
        release(*entry);
        return entries_.erase(entry);
    }
    void release(Entry &entry) {
        api_->freeFrame(entry.source);
        api_->freeFrame(entry.result);
    }

    std::mutex mutex_;
    Entries entries_; // the one met last comes first
    std::unordered_multimap<uint64_t, Entries::iterator> found_;
    const int64_t pixels_, limit_;
    int64_t kept_ = 0, size_ = 0; // bytes, as limit_; all entries are of one size
    const VSAPI *api_;
};

// The frame asked of `result` is kept, plus one, where VapourSynth has a pointer.
void *mark(int number) { return reinterpret_cast<void *>(static_cast<intptr_t>(number) + 1); }
int marked(void *data) { return static_cast<int>(reinterpret_cast<intptr_t>(data) - 1); }

// The same picture with the properties of another frame, but for those of these keys.
const VSFrame *dressed(const VSFrame *picture, const VSFrame *source, const Keys &keys, VSCore *core,
                       const VSAPI *api) {
    const VSFrame *from[3] = {picture, picture, picture};
    const int planes[3] = {0, 1, 2};
    VSFrame *frame = api->newVideoFrame2(api->getVideoFrameFormat(picture), api->getFrameWidth(picture, 0),
                                         api->getFrameHeight(picture, 0), from, planes, source, core);
    VSMap *props = api->getFramePropertiesRW(frame);
    for (const std::string &key : keys) {
        int count = 0;
        const int64_t *values = numbers(api->getFramePropertiesRO(picture), key, count, api);
        api->mapDeleteKey(props, key.c_str());
        if (values)
            api->mapSetIntArray(props, key.c_str(), values, count);
    }
    api->freeFrame(picture);
    return frame;
}

const VSFrame *VS_CC get_frame(int n, int reason, void *instance, void **data, VSFrameContext *context, VSCore *core,
                               const VSAPI *api) {
    Reuse &reuse = *static_cast<Reuse *>(instance);
    if (reason == arInitial) {
        api->requestFrameFilter(n, reuse.clip, context);
        return nullptr;
    }
    if (reason == arError) {
        if (*data && marked(*data) == n)
            reuse.put(n, nullptr, nullptr);
        return nullptr;
    }
    const VSFrame *source = api->getFrameFilter(n, reuse.clip, context);
    const VSFrame *made = nullptr;
    int number = n;
    if (!*data) {
        made = reuse.find(n, source, number);
        reuse.count(source, made || number != n);
        if (!made) {
            *data = mark(number);
            api->requestFrameFilter(number, reuse.result, context);
        }
    } else {
        number = marked(*data);
        made = api->getFrameFilter(number, reuse.result, context);
        if (number == n)
            reuse.put(n, source, made);
    }
    if (made)
        made = dressed(made, source, reuse.props, core, api);
    api->freeFrame(source);
    return made;
}

void VS_CC free_reuse(void *instance, VSCore *, const VSAPI *) { delete static_cast<Reuse *>(instance); }

void VS_CC create(const VSMap *in, VSMap *out, void *, VSCore *core, const VSAPI *api) {
    VSNode *clip = api->mapGetNode(in, "clip", 0, nullptr), *result = api->mapGetNode(in, "result", 0, nullptr);
    const VSVideoInfo info = *api->getVideoInfo(result), given = *api->getVideoInfo(clip);
    const int64_t bytes = api->mapGetInt(in, "bytes", 0, nullptr);
    int absent = 0;
    const int64_t pixels = api->mapGetInt(in, "pixels", 0, &absent);
    Keys props;
    for (int i = 0; i < api->mapNumElements(in, "props"); i++) // -1 if it is absent
        props.emplace_back(api->mapGetData(in, "props", i, nullptr));
    const bool constant = info.width > 0 && given.width > 0 && info.format.colorFamily && given.format.colorFamily;
    if (!constant || info.numFrames != given.numFrames || bytes < 0) {
        api->mapSetError(out, "aether.Reuse: clip and result must be of constant format and of one length, and bytes "
                              "not negative");
        api->freeNode(clip);
        api->freeNode(result);
        return;
    }
    // Any frame of result may be asked for. Its cache gives those a second time whose first request is just answered.
    const VSFilterDependency dependencies[] = {{clip, rpStrictSpatial}, {result, rpGeneral}};
    api->createVideoFilter(out, "Reuse", &info, get_frame, free_reuse, fmParallel, dependencies, 2,
                           new Reuse(clip, result, bytes, std::move(props), pixels, api), core);
}

void VS_CC reused(const VSMap *, VSMap *out, void *, VSCore *, const VSAPI *api) {
    api->mapSetInt(out, "pixels", asked_pixels, maReplace);
    api->mapSetInt(out, "pixels", reused_pixels, maAppend);
}

} // namespace

void aether_count(int64_t asked, int64_t reused) {
    asked_pixels += asked;
    reused_pixels += reused;
}

void aether_register_reuse(VSPlugin *plugin, const VSPLUGINAPI *vspapi) {
    vspapi->registerFunction("Reuse", "clip:vnode;result:vnode;bytes:int;props:data[]:opt;pixels:int:opt;",
                             "clip:vnode;", create, nullptr, plugin);
    vspapi->registerFunction("Reused", "", "pixels:int[];", reused, nullptr, plugin);
}
