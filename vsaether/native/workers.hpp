// The threads that compute a frame together, and the memory in which they do.
#pragma once
#include "memory.hpp"

#include <memory>

namespace aether {

/// What is done for each unit of a pass over the frame. Must not throw.
class Task {
  public:
    virtual void operator()(int unit, int thread) = 0;

  protected:
    ~Task() = default;
};

constexpr int FRAME_BUFFERS = 4;
constexpr int MAX_THREADS = 256;

/// One set of threads and buffers a process and thread count: every network which is open shares it, one run at a time,
/// so that several filters in a script neither crowd the cores nor multiply the memory.
class Workers {
  public:
    /// Throws std::runtime_error if the system gives no thread.
    static std::shared_ptr<Workers> share(int threads);

    explicit Workers(int threads);
    ~Workers();
    Workers(const Workers &) = delete;
    Workers &operator=(const Workers &) = delete;

    int threads() const { return threads_; }
    /// Every unit from 0 to units - 1 by some thread; returns when all are done.
    void run(int units, Task &task);
    /// Held during a whole run of a network.
    void lock();
    void unlock();

    Buffer frames[FRAME_BUFFERS]; ///< of the frame
    Buffer scratch;               ///< for all threads, each its own part

  private:
    struct State;
    void work(int thread);
    void stop();
    int threads_;
    std::unique_ptr<State> state_;
};

} // namespace aether
