// Spoken commands: a .tflite of speechrnn and recordings in, text out.
//
//   listen commands.tflite clip.wav ...            one answer a recording
//   listen commands.tflite --stream long.wav       what is heard in it, and when
//   arecord -q -f S16_LE -r 16000 -c 1 -t raw | listen commands.tflite -
//
// A line is name or second, text, confidence, with tabs between; with --json an object.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>

#include "speech.h"

namespace {

const double kLongestS = 60, kLongestStreamedS = 600;
const int kMostChunk = 1 << 20;
const char kUsage[] =
    "expected MODEL.tflite [--stream] [--threshold X] [--chunk SAMPLES] [--json] "
    "F.wav ... or -";

struct Options {
  std::string model;
  std::vector<std::string> sounds;
  bool stream = false, json = false;
  double threshold = -1;
  long chunk = 400;
};

double number_of(const std::string& option, const char* text) {
  char* end = nullptr;
  const double number = text ? std::strtod(text, &end) : 0;
  if (!text || end == text || *end || !(number >= 0)) {
    throw Refused(option + ": got '" + (text ? text : "") + "', expected a number, 0 or more");
  }
  return number;
}

Options read_options(int count, char** words) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--stream") options.stream = true;
    else if (word == "--json") options.json = true;
    else if (word == "--threshold") options.threshold = number_of(word, words[++i]);
    else if (word == "--chunk") options.chunk = long(std::min(number_of(word, words[++i]), 1e9));
    else if (word.rfind("--", 0) == 0) throw Refused(word + ": is unknown; " + kUsage);
    else if (options.model.empty()) options.model = word;
    else options.sounds.push_back(word);
  }
  if (options.sounds.empty() || options.chunk < 1 || options.chunk > kMostChunk) {
    throw Refused(kUsage);
  }
  return options;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    if (c >= 0 && c < ' ') {
      char escape[7];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      result += escape;
    } else {
      result += c;
    }
  }
  return result + "\"";
}

void show(const Options& options, const std::string& name, const Event& event) {
  if (options.json) {
    std::printf("{\"sound\": %s, \"text\": %s, \"time_s\": %.6f, \"confidence\": %.9g}\n",
                quoted(name).c_str(), quoted(event.text).c_str(), event.time_s, event.confidence);
  } else {
    std::printf("%.2f\t%s\t%.4f\n", event.time_s, event.text.c_str(), event.confidence);
  }
  std::fflush(stdout);
}

void show(const Options& options, const Model& model, const std::string& name,
          const Transcript& said) {
  if (!options.json) {
    if (!said.text.empty()) {
      std::printf("%s\t%s\t%.4f\n", name.c_str(), said.text.c_str(), said.confidence);
    }
    return;
  }
  std::printf("{\"sound\": %s, \"text\": %s, \"confidence\": %.9g, \"%s\": %s",
              quoted(name).c_str(), quoted(said.text).c_str(), said.confidence,
              model.of_sequences ? "log_probs" : "probabilities", model.of_sequences ? "[" : "");
  for (size_t row = 0; row < said.answers.size(); ++row) {
    std::printf(row ? ", [" : "[");
    for (size_t k = 0; k < said.answers[row].size(); ++k) {
      std::printf(k ? ", %.9g" : "%.9g", said.answers[row][k]);
    }
    std::printf("]");
  }
  std::printf(model.of_sequences ? "]}\n" : "}\n");
}

void listen_to(const Options& options, Model& model, const std::string& name, double threshold) {
  Listener listener(model, threshold);
  const auto tell = [&](const std::vector<Event>& events) {
    for (const Event& event : events) show(options, name, event);
  };
  if (name == "-") {
    std::vector<char> bytes(2 * options.chunk);
    size_t got;
    while ((got = std::fread(bytes.data(), 2, options.chunk, stdin)) > 0) {
      tell(listener.feed(to_floats(bytes.data(), got)));
    }
  } else {
    const Samples waveform = read_wav(name, model.rate_hz, kLongestStreamedS);
    for (size_t at = 0; at < waveform.size(); at += options.chunk) {
      const size_t end = std::min(waveform.size(), at + options.chunk);
      tell(listener.feed({waveform.begin() + at, waveform.begin() + end}));
    }
  }
  tell(listener.finish());
}

void run(const Options& options) {
  Model model(options.model);
  const double threshold = options.threshold < 0 ? model.threshold : options.threshold;
  for (const std::string& name : options.sounds) {
    if (options.stream || name == "-") {
      listen_to(options, model, name, threshold);
      continue;
    }
    const Samples waveform = read_wav(name, model.rate_hz, kLongestS);
    if (int(waveform.size()) < model.min_samples) {
      throw Refused(name + ": " + std::to_string(waveform.size()) + " samples, expected at least " +
                    std::to_string(model.min_samples));
    }
    show(options, model, name, model.transcribe(waveform, threshold));
  }
}

}  // namespace

int main(int count, char** words) {
  try {
    run(read_options(count, words));
    if (std::fflush(stdout) || std::ferror(stdout)) {
      throw Refused("standard output cannot be written; make room");
    }
  } catch (const std::exception& error) {
    std::cerr << "listen: " << error.what() << "\n";
    return 2;
  }
}
