#include "model.h"

#include <algorithm>

#include "sequence.h"

std::vector<Answer> rows_of(const Tensor& tensor) {
  const size_t columns = tensor.shape.back();
  std::vector<Answer> rows;
  for (size_t at = 0; at + columns <= tensor.floats.size(); at += columns) {
    rows.emplace_back(tensor.floats.begin() + at, tensor.floats.begin() + at + columns);
  }
  return rows;
}

namespace {

// Length of the longest recordings that a model learnt from; a second where it is not said.
double longest_clip_s(const Json& about) {
  if (!about.has("training") || !about["training"].has("clip_s")) return 1;
  const auto& lengths = about["training"]["clip_s"].list;
  if (lengths.size() != 2) return 1;
  const double low = lengths[0].number, high = lengths[1].number;
  return 0 < low && low <= high && high <= 10 ? high : 1;
}

}  // namespace

Model::Model(const std::string& path)
    : file(read_model(path)),
      rate_hz(int(file.about["features"]["sample_rate_hz"].number)),
      min_samples(int(file.about["min_samples"].number)),
      of_sequences(file.about["output"]["name"].text == "log_probs"),
      threshold(file.about.has("decision") ? file.about["decision"].number_or("threshold", 0) : 0),
      window_s(longest_clip_s(file.about)),
      hop_s(std::min(0.2, window_s / 5)),
      serve_(file, file.about["signature"].text) {
  for (const Json& label : file.about["labels"].list) labels.push_back(label.text);
}

std::vector<Answer> Model::answer(const Samples& waveform) {
  const int count = int(waveform.size());
  size_t most_steps = 0;
  if (of_sequences) most_steps = count / (file.about["steps"]["step_s"].number * rate_hz) + 2;
  const auto found = serve_.call({{"waveform", Tensor::of({1, count}, waveform)}}, most_steps);
  return rows_of(found.at(of_sequences ? "log_probs" : "probabilities"));
}

Transcript Model::transcribe(const Samples& waveform, double least) {
  Transcript found{"", 0, answer(waveform)};
  if (of_sequences) {
    const Read read = read_sequence(*this, found.answers);
    found.text = read.text;
    found.confidence = read.confidence;
  } else {
    const Answer& row = found.answers.at(0);
    const auto best = std::max_element(row.begin(), row.end());
    found.text = labels.at(best - row.begin());
    found.confidence = *best;
  }
  if (found.confidence < least) found.text.clear();
  return found;
}
