#include "workers.hpp"

#include "system.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace aether {

constexpr size_t HUGE_PAGE = size_t{2} << 20;
constexpr int YIELDS = 200; // about 0.1 ms, before a thread that waits sleeps

Buffer::~Buffer() { system_free(data_); }

void *Buffer::get(size_t bytes) {
    if (bytes <= size_)
        return data_;
    system_free(data_);
    data_ = nullptr;
    size_ = 0;
    const size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    data_ = system_allocate(alignment, rounded);
    if (!data_)
        throw std::runtime_error("there is no memory for a frame of this size (" + std::to_string(bytes >> 20) +
                                 " MiB were asked for); give smaller tiles");
    size_ = rounded;
    return data_;
}

namespace {

// Passes follow each other at once, and waking a thread takes longer than that: 5 % of a frame of 8 ms.
template <class F> void await(F is_over) {
    for (int i = 0; i < YIELDS && !is_over(); i++)
        std::this_thread::yield();
}

} // namespace

struct Workers::State {
    std::vector<std::thread> others; // the caller of run is thread 0
    std::mutex running;              // one network at a time
    std::mutex mutex;
    std::condition_variable started, finished;
    Task *task = nullptr;
    int units = 0;
    std::atomic<int> next{0};
    std::atomic<int> busy{0};
    std::atomic<size_t> pass{0};
    bool stop = false;
};

std::shared_ptr<Workers> Workers::share(int threads) {
    static std::mutex mutex;
    static std::map<int, std::weak_ptr<Workers>> known;
    std::lock_guard<std::mutex> lock(mutex);
    auto workers = known[threads].lock();
    if (!workers)
        known[threads] = workers = std::make_shared<Workers>(threads);
    return workers;
}

Workers::Workers(int threads) : threads_(threads), state_(new State) {
    try {
        for (int i = 1; i < threads; i++)
            state_->others.emplace_back([this, i] { work(i); });
    } catch (const std::system_error &error) {
        const auto got = state_->others.size() + 1;
        stop();
        throw std::runtime_error("the system gives only " + std::to_string(got) + " of " + std::to_string(threads) +
                                 " threads (" + error.what() + "); give a smaller number of threads");
    }
}

Workers::~Workers() { stop(); }

void Workers::stop() {
    {
        std::lock_guard<std::mutex> lock(state_->mutex);
        state_->stop = true;
    }
    state_->started.notify_all();
    for (auto &thread : state_->others)
        thread.join();
}

void Workers::lock() { state_->running.lock(); }
void Workers::unlock() { state_->running.unlock(); }

void Workers::work(int thread) {
    State &s = *state_;
    size_t seen = 0;
    for (;;) {
        await([&] { return s.pass != seen; });
        std::unique_lock<std::mutex> lock(s.mutex);
        s.started.wait(lock, [&] { return s.stop || s.pass != seen; });
        if (s.stop)
            return;
        seen = s.pass;
        Task &task = *s.task;
        const int units = s.units;
        lock.unlock();
        for (int unit; (unit = s.next++) < units;)
            task(unit, thread);
        lock.lock();
        if (--s.busy == 0)
            s.finished.notify_one();
    }
}

void Workers::run(int units, Task &task) {
    State &s = *state_;
    {
        std::lock_guard<std::mutex> lock(s.mutex);
        s.task = &task;
        s.units = units;
        s.next = 0;
        s.busy = threads_ - 1;
        s.pass++;
    }
    s.started.notify_all();
    for (int unit; (unit = s.next++) < units;)
        task(unit, 0);
    await([&] { return s.busy == 0; });
    std::unique_lock<std::mutex> lock(s.mutex);
    s.finished.wait(lock, [&] { return s.busy == 0; });
}

} // namespace aether
