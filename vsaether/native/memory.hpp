// Memory for frames and packed weights: aligned, kept from run to run, and grown when a larger frame comes.
#pragma once
#include <cstddef>

namespace aether {

constexpr size_t ALIGNMENT = 64;

/// Aligned memory. Its contents are whatever the last user left.
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer();

    /// At least so many bytes; throws std::runtime_error, with one sentence, if the system has none.
    void *get(size_t bytes);

  private:
    void *data_ = nullptr;
    size_t size_ = 0;
};

} // namespace aether
