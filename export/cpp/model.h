// Sound -> answers of a file, asked as a whole.
#pragma once

#include <string>
#include <vector>

#include "files.h"
#include "signature.h"

using Answer = std::vector<float>;    // probabilities [labels], or log_probs [1 + labels] of a step
using Samples = std::vector<float>;   // within -1..1, at the model's rate

struct Transcript {
  std::string text;
  double confidence;
  std::vector<Answer> answers;  // one of a classifier, one a step of sequences
};

// The rows of a tensor of float32.
std::vector<Answer> rows_of(const Tensor& tensor);

class Model {
 public:
  explicit Model(const std::string& path);

  std::vector<Answer> answer(const Samples& waveform);
  Transcript transcribe(const Samples& waveform, double threshold);

  File file;
  std::vector<std::string> labels;
  int rate_hz, min_samples;
  bool of_sequences;
  double threshold;
  // Of windows: as long as the longest recordings that it learnt from; from one to the next.
  double window_s, hop_s;

 private:
  Signature serve_;
};
