// What a model of sequences says: its log_probs -> text and events.
#pragma once

#include <memory>
#include <vector>

#include "model.h"
#include "speech.h"

struct Read {
  std::string text;
  double confidence;
  size_t first;  // the step at which the text begins
};

// The best path and its confidence, as `decision` in the file says.
Read read_sequence(const Model& model, const std::vector<Answer>& log_probs);

// Words between two pauses, as their steps come.
std::unique_ptr<Hearing> hear_utterances(const Model& model, double step_s, double threshold);
