#include "speech.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "sequence.h"

namespace {

const int kSmoothing = 2;
const int kEndless = 1 << 30, kMostCalls = 1 << 16;

int64_t nearest(double number) { return int64_t(std::nearbyint(number)); }

// ---------------------------------------------------------------- sound -> answers

// Answers to overlapping windows, as they fill.
struct Windows : Source {
  explicit Windows(Model& model) : model(model) {
    window_s = model.window_s, hop_s = model.hop_s, smoothing = kSmoothing;
  }

  std::vector<Answer> feed(const Samples& samples) override {
    waiting.insert(waiting.end(), samples.begin(), samples.end());
    const int64_t length = nearest(window_s * model.rate_hz);
    std::vector<Answer> answers;
    int64_t start;
    while ((start = nearest(count * hop_s * model.rate_hz) - dropped) + length <=
           int64_t(waiting.size())) {
      const auto from = waiting.begin() + start;
      answers.push_back(model.answer({from, from + length}).at(0));
      ++count;
    }
    const int64_t done = std::min(start, int64_t(waiting.size()));
    waiting.erase(waiting.begin(), waiting.begin() + done);
    dropped += done;
    return answers;
  }

  Model& model;
  Samples waiting;
  int64_t dropped = 0, count = 0;
};

// Answers of a file exported with --streaming, whose state goes from call to call.
struct Carried : Source {
  explicit Carried(Model& model)
      : how(model.file.about["streaming"]), stream(model.file, how["signature"].text) {
    output = model.of_sequences ? "log_probs" : "probabilities";
    chunk = number("chunk"), context = number("context"), per_call = number("steps");
    frames_per_call = number("frames"), first_step = number("first_step");
    pooled = number("pooled");
    hop_s = double(chunk) / per_call / model.rate_hz;
    window_s = std::max(int64_t{1}, pooled) * hop_s;
    unfilled = int(std::max(int64_t{0}, pooled - 1));
    smoothing = int(std::max(int64_t{1}, nearest(kSmoothing * model.hop_s / hop_s)));
    first_s = model.file.about["steps"]["first_s"].number - hop_s / 2;
    const auto& shapes = how["states"].list;
    for (size_t n = 0; n < shapes.size(); ++n) {
      Tensor state;
      size_t size = 1;
      for (const Json& length : shapes[n].list) {
        state.shape.push_back(int(length.number));
        size *= state.shape.back();
      }
      state.floats.resize(size);
      carried["state_" + std::to_string(n)] = state;
    }
  }

  std::vector<Answer> feed(const Samples& samples) override {
    heard += int64_t(samples.size());
    return take(samples, kEndless);
  }

  // What lags behind at the end: zeros until the last step is answered to.
  std::vector<Answer> finish() override {
    if (!heard) return {};
    const int64_t hop = chunk / frames_per_call;
    const int64_t frames =
        1 + std::max(int64_t{0}, heard - context - hop) / hop - forgotten * frames_per_call;
    const int64_t needed = std::max(int64_t{0}, steps(frames) - step()) * chunk;
    return take(Samples(context + needed + chunk), int(frames));
  }

  std::vector<Answer> take(const Samples& samples, int frames) {
    waiting.insert(waiting.end(), samples.begin(), samples.end());
    if (!carried.count("samples") && int64_t(waiting.size()) >= context) {
      carried["samples"] = Tensor::of({1, int(context)}, next(context));
    }
    std::vector<Answer> answers;
    while (carried.count("samples") && int64_t(waiting.size()) >= chunk &&
           (frames == kEndless || step() < steps(frames))) {
      const int64_t first = step();
      carried["waveform"] = Tensor::of({1, int(chunk)}, next(chunk));
      carried["position"] = Tensor::scalar(int(position));
      carried["num_frames"] = Tensor::scalar(frames);
      auto found = stream.call(carried);
      ++(frames == kEndless && position >= kMostCalls ? forgotten : position);
      auto rows = rows_of(found[output]);
      found.erase(output);
      for (auto& [name, tensor] : found) carried[name] = tensor;
      const int64_t skipped = std::min(std::max(int64_t{0}, -first), per_call);
      const int64_t made = frames == kEndless ? per_call : std::min(per_call, steps(frames) - first);
      answers.insert(answers.end(), rows.begin() + skipped, rows.begin() + std::max(skipped, made));
    }
    return answers;
  }

  int64_t number(const char* key) const { return int64_t(how[key].number); }
  int64_t step() const { return position * per_call + first_step; }
  int64_t steps(int64_t frames) const {
    return (frames * per_call + frames_per_call - 1) / frames_per_call;
  }

  Samples next(int64_t count) {
    const Samples taken(waiting.begin(), waiting.begin() + count);
    waiting.erase(waiting.begin(), waiting.begin() + count);
    return taken;
  }

  const Json& how;
  Signature stream;
  std::string output;
  int64_t chunk, context, per_call, frames_per_call, first_step, pooled;
  Signature::Tensors carried;
  Samples waiting;
  int64_t heard = 0, position = 0, forgotten = 0;
};

// ---------------------------------------------------------------- answers -> events

// A command where the mean of the last answers reaches the threshold; then a rest.
struct Commands : Hearing {
  Commands(const Model& model, const Source& source, double threshold)
      : model(model), source(source), threshold(threshold), unfilled(source.unfilled) {}

  std::vector<Event> hear(const Answer& answer) override {
    if (unfilled && unfilled--) return {};
    recent.push_back(answer);
    if (int(recent.size()) > source.smoothing) recent.erase(recent.begin());
    std::vector<double> mean(answer.size());
    for (const Answer& one : recent) {
      for (size_t k = 0; k < mean.size(); ++k) mean[k] += one[k];
    }
    const size_t best = std::max_element(mean.begin(), mean.end()) - mean.begin();
    const double confidence = mean[best] / recent.size();
    const std::string& label = model.labels.at(best);
    const bool is_command = label.front() != '_' || label.back() != '_';
    const int64_t now = window++;
    if (now < rest || !is_command || !(confidence >= threshold)) return {};
    const double rest_s = model.window_s + (kSmoothing - 1) * model.hop_s;
    rest = now + std::max(int64_t{1}, int64_t(std::ceil(rest_s / source.hop_s - 1e-9)));
    const double time_s = source.first_s + now * source.hop_s + source.window_s / 2;
    return {{label, std::max(0.0, time_s), confidence}};
  }

  const Model& model;
  const Source& source;
  double threshold;
  int unfilled;
  std::vector<Answer> recent;
  int64_t window = 0, rest = 0;
};

}  // namespace

Listener::Listener(Model& model, double threshold) {
  const bool carries = model.file.about.has("streaming");
  if (model.of_sequences && !carries) {
    throw Refused(model.file.path + ": answers with sequences; export it with --streaming");
  }
  if (carries) source_ = std::make_unique<Carried>(model);
  else source_ = std::make_unique<Windows>(model);
  if (model.of_sequences) hearing_ = hear_utterances(model, source_->hop_s, threshold);
  else hearing_ = std::make_unique<Commands>(model, *source_, threshold);
}

std::vector<Event> Listener::feed(const Samples& samples) {
  std::vector<Event> events;
  for (const Answer& answer : source_->feed(samples)) {
    for (const Event& event : hearing_->hear(answer)) events.push_back(event);
  }
  return events;
}

std::vector<Event> Listener::finish() {
  std::vector<Event> events;
  for (const Answer& answer : source_->finish()) {
    for (const Event& event : hearing_->hear(answer)) events.push_back(event);
  }
  for (const Event& event : hearing_->end()) events.push_back(event);
  return events;
}
