#include "sequence.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace {

const double kPauseS = 1.0, kLongestUtteranceS = 60.0;

size_t largest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

double add_logs(double a, double b) {
  const double high = std::max(a, b), low = std::min(a, b);
  return std::isinf(low) ? high : high + std::log1p(std::exp(low - high));
}

// The likeliest column of each step, where each symbol costs as it begins (Viterbi).
std::vector<size_t> best_path(const std::vector<Answer>& log_probs, double cost) {
  std::vector<double> score;
  std::vector<std::vector<size_t>> came_from;
  for (const Answer& row : log_probs) {
    const size_t before = score.empty() ? 0 : largest(score);
    const double best = score.empty() ? 0 : score[before];
    std::vector<double> next(row.size());
    std::vector<size_t> origins(row.size());
    for (size_t k = 0; k < row.size(); ++k) {
      const double changed = best - (k ? cost : 0);
      const bool stays = !score.empty() && score[k] >= changed;
      next[k] = (stays ? score[k] : changed) + row[k];
      origins[k] = stays ? k : before;
    }
    score = next;
    came_from.push_back(origins);
  }
  std::vector<size_t> path(log_probs.size());
  for (size_t n = path.size(); n-- > 0;) {
    path[n] = n + 1 == path.size() ? largest(score) : came_from[n + 1][path[n + 1]];
  }
  return path;
}

// Of the symbols over all paths: the CTC forward algorithm (Graves et al. 2006).
double log_likelihood(const std::vector<Answer>& log_probs, const std::vector<size_t>& symbols) {
  std::vector<size_t> columns(2 * symbols.size() + 1);
  for (size_t i = 0; i < symbols.size(); ++i) columns[2 * i + 1] = symbols[i];
  std::vector<double> forward(columns.size(), -std::numeric_limits<double>::infinity());
  forward[0] = 0;
  for (const Answer& row : log_probs) {
    for (size_t i = columns.size(); i-- > 0;) {
      if (i >= 3 && i % 2 && columns[i] != columns[i - 2]) {
        forward[i] = add_logs(forward[i], forward[i - 2]);
      }
      if (i >= 1) forward[i] = add_logs(forward[i], forward[i - 1]);
      forward[i] += row[columns[i]];
    }
  }
  return symbols.empty() ? forward[0] : add_logs(forward.back(), forward[forward.size() - 2]);
}

}  // namespace

Read read_sequence(const Model& model, const std::vector<Answer>& log_probs) {
  static const Json nothing;
  const Json& about = model.file.about;
  const Json& decision = about.has("decision") ? about["decision"] : nothing;
  const bool letters = about["head"].has("symbols") && about["head"]["symbols"].text == "characters";
  const auto path = best_path(log_probs, decision.number_or("symbol_cost", 0));
  std::vector<size_t> symbols;
  Read found{"", 0, 0};
  for (size_t n = 0; n < path.size(); ++n) {
    if (!path[n] || (n && path[n - 1] == path[n])) continue;
    const std::string& label = model.labels[path[n] - 1];
    if (symbols.empty()) found.first = n;
    symbols.push_back(path[n]);
    if (letters && label == "|") {
      if (!found.text.empty() && found.text.back() != ' ') found.text += ' ';
    } else {
      found.text += (letters || found.text.empty() ? "" : " ") + label;
    }
  }
  if (!found.text.empty() && found.text.back() == ' ') found.text.pop_back();
  double slope = 1, offset = 0;
  if (decision.has("utterance_confidence")) {
    slope = decision["utterance_confidence"].list.at(0).number;
    offset = decision["utterance_confidence"].list.at(1).number;
  }
  const double likely = std::min(log_likelihood(log_probs, symbols), -1e-13);
  const double odds = std::clamp(likely - std::log(-std::expm1(likely)), -30.0, 30.0);
  found.confidence = 1 / (1 + std::exp(-(slope * odds + offset)));
  return found;
}

namespace {

// What a word's start is later than the first step that answers with it.
double starts_later(const Model& model) {
  const Json& about = model.file.about;
  if (!about.has("decision") || !about["decision"].has("word_edges")) return 0;
  return about["decision"]["word_edges"].list.at(0).number;
}

// Words between two pauses of a second, of a model of sequences.
struct Utterances : Hearing {
  Utterances(const Model& model, double step_s, double threshold)
      : model(model), step_s(step_s), threshold(threshold) {}

  std::vector<Event> hear(const Answer& step) override {
    const bool blank = std::max_element(step.begin(), step.end()) == step.begin();
    const long pause = std::lrint(kPauseS / step_s);
    steps.push_back(step);
    said = said || !blank;
    blanks = blank ? blanks + 1 : 0;
    if (!said && long(steps.size()) > pause) {
      steps.erase(steps.begin());
      ++before;
    }
    const bool full = long(steps.size()) >= std::lrint(kLongestUtteranceS / step_s);
    return said && (full || blanks >= pause) ? end() : std::vector<Event>{};
  }

  std::vector<Event> end() override {
    std::vector<Event> events;
    if (said) {
      const Read read = read_sequence(model, steps);
      const double first_s = model.file.about["steps"]["first_s"].number;
      const double begins_s =
          std::max(0.0, first_s + (read.first - 0.5) * step_s + starts_later(model));
      if (!read.text.empty() && read.confidence >= threshold) {
        events.push_back({read.text, before * step_s + begins_s, read.confidence});
      }
    }
    before += long(steps.size());
    steps.clear();
    blanks = 0;
    said = false;
    return events;
  }

  const Model& model;
  double step_s, threshold;
  std::vector<Answer> steps;
  long before = 0, blanks = 0;
  bool said = false;
};

}  // namespace

std::unique_ptr<Hearing> hear_utterances(const Model& model, double step_s, double threshold) {
  return std::make_unique<Utterances>(model, step_s, threshold);
}
