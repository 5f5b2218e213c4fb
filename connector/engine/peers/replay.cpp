// Replays a queue of requests with llama.cpp, scheduled as llama-server does it.
//
//   replay MODEL.gguf QUEUE.json SLOTS THREADS FIRST_N [EMIT.jsonl]
//
// Every pass takes one token of each slot that generates, and fills the batch with prompt tokens of
// the slots that do not, first come first served, all in one llama_decode. The greedy token of each
// output row is found (and written to EMIT), then replaced by the queue's own, as
// `aligner-connector bench --queue` does it. One JSON object goes to stdout.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "llama.h"

namespace {

constexpr int BATCH = 512;

struct Request {
    std::string id;
    int prompt, output;
    std::vector<int> greedy;
};

struct Slot {
    int request = -1;
    int position = 0;
    int row = -1;  // of the batch that is being computed, if it gives a token
};

// The queue's layout is fixed, so its fields are found by name, in order.
std::string field(const std::string & text, const char * name, size_t & at) {
    at = text.find("\"" + std::string(name) + "\":", at);
    if (at == std::string::npos) return "";
    at = text.find(':', at) + 1;
    const size_t begin = text.find_first_not_of(" \"", at);
    const size_t end = text.find_first_of(",}\"\n", begin);
    return text.substr(begin, end - begin);
}

std::vector<Request> read_queue(const char * path) {
    std::stringstream buffer;
    buffer << std::ifstream(path).rdbuf();
    const std::string text = buffer.str();
    std::vector<Request> requests;
    for (size_t at = text.find("\"requests\""); at != std::string::npos;) {
        std::string id = field(text, "id", at);
        if (at == std::string::npos) break;
        const int prompt = std::atoi(field(text, "prompt_len", at).c_str());
        const int output = std::atoi(field(text, "out_len", at).c_str());
        requests.push_back({id, prompt, output, {}});
    }
    return requests;
}

llama_token token(int request, int position, int vocab) {
    uint64_t x = uint64_t(request) * 1000003u + position + 12345;
    x ^= x >> 12;
    x *= 0x9E3779B97F4A7C15ull;
    x ^= x >> 29;
    return 3 + llama_token(x % uint64_t(vocab - 3));
}

void add(llama_batch & batch, llama_token token, int position, int slot, bool output) {
    const int row = batch.n_tokens++;
    batch.token[row] = token;
    batch.pos[row] = position;
    batch.n_seq_id[row] = 1;
    batch.seq_id[row][0] = slot;
    batch.logits[row] = output;
}

}  // namespace

int main(int argc, char ** argv) {
    if (argc < 6) {
        std::fprintf(stderr, "usage: replay MODEL QUEUE SLOTS THREADS FIRST_N [EMIT]\n");
        return 2;
    }
    std::vector<Request> requests = read_queue(argv[2]);
    const int slots = std::atoi(argv[3]), threads = std::atoi(argv[4]);
    requests.resize(std::min<size_t>(requests.size(), std::atoi(argv[5])));
    int longest = 0;
    for (const Request & request : requests) longest = std::max(longest, request.prompt + request.output);

    llama_log_set([](ggml_log_level level, const char * text, void *) {
        if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
    }, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    llama_context_params params = llama_context_default_params();
    // The fastest settings found: KV of each sequence apart, in f16.
    params.n_ctx = (longest + 255) / 256 * 256 * slots;
    params.n_batch = params.n_ubatch = BATCH;
    params.n_seq_max = slots;
    params.n_threads = params.n_threads_batch = threads;
    params.kv_unified = false;
    params.no_perf = true;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) return 1;
    llama_memory_t memory = llama_get_memory(context);
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_batch batch = llama_batch_init(BATCH, 0, 1);

    // Warm-up.
    batch.n_tokens = 0;
    for (int i = 0; i < 16; i++) add(batch, token(0, i, vocab), i, 0, i == 15);
    if (llama_decode(context, batch)) return 1;
    llama_memory_clear(memory, true);

    std::vector<Slot> running(slots);
    size_t next = 0, done = 0;
    int passes = 0;
    const auto started = std::chrono::steady_clock::now();
    while (done < requests.size()) {
        for (Slot & slot : running) {
            if (slot.request < 0 && next < requests.size()) slot = {int(next++), 0, -1};
        }
        batch.n_tokens = 0;
        std::vector<int> reading;
        for (int s = 0; s < slots; s++) {
            Slot & slot = running[s];
            if (slot.request < 0) continue;
            if (slot.position < requests[slot.request].prompt) {
                reading.push_back(s);
                continue;
            }
            slot.row = batch.n_tokens;
            add(batch, token(slot.request, slot.position, vocab), slot.position, s, true);
            slot.position++;
        }
        std::sort(reading.begin(), reading.end(),
                  [&](int a, int b) { return running[a].request < running[b].request; });
        for (int s : reading) {
            Slot & slot = running[s];
            const int prompt = requests[slot.request].prompt;
            while (batch.n_tokens < BATCH && slot.position < prompt) {
                const bool last = slot.position + 1 == prompt;
                if (last) slot.row = batch.n_tokens;
                add(batch, token(slot.request, slot.position, vocab), slot.position, s, last);
                slot.position++;
            }
        }
        if (llama_decode(context, batch)) return 1;
        passes++;
        for (int s = 0; s < slots; s++) {
            Slot & slot = running[s];
            if (slot.request < 0 || slot.row < 0) continue;
            const float * logits = llama_get_logits_ith(context, slot.row);
            Request & request = requests[slot.request];
            request.greedy.push_back(int(std::max_element(logits, logits + vocab) - logits));
            slot.row = -1;
            if (int(request.greedy.size()) == request.output) {
                llama_memory_seq_rm(memory, s, -1, -1);
                slot.request = -1;
                done++;
            }
        }
    }
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    std::printf("{\"requests\": %zu, \"seconds\": %.4f, \"corrections_per_s\": %.4f, \"passes\": %d}\n",
                requests.size(), seconds, requests.size() / seconds, passes);
    if (argc > 6) {
        std::ofstream emit(argv[6]);
        for (const Request & request : requests) {
            emit << "{\"id\": \"" << request.id << "\", \"argmax\": [";
            for (size_t i = 0; i < request.greedy.size(); i++) emit << (i ? ", " : "") << request.greedy[i];
            emit << "]}\n";
        }
    }
    return 0;
}
