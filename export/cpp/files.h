// What a .tflite of speechrnn says about itself, and WAV files. No other library is needed.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// What is wrong, in one line: what, got, expected.
struct Refused : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A value of JSON: null, a number (also true and false), text, a list, or a mapping.
struct Json {
  enum Kind { kNull, kNumber, kText, kList, kMapping } kind = kNull;
  double number = 0;
  std::string text;
  std::vector<Json> list;
  std::map<std::string, Json> mapping;

  bool has(const std::string& key) const { return mapping.count(key) > 0; }
  const Json& operator[](const std::string& key) const;
  double number_or(const std::string& key, double otherwise) const;
};

struct File {
  std::string path;
  std::string content;  // begins with the flatbuffer
  size_t model_bytes;
  Json about;  // speechrnn.json
};

// Reads a .tflite and checks that it is ours, whole, and of a format that is known here.
File read_model(const std::string& path);

// Samples within -1..1 of a WAV file of 16 bits, one channel, at this rate.
std::vector<float> read_wav(const std::string& path, int rate_hz, double longest_s);

// 16-bit little-endian samples as floats within -1..1.
std::vector<float> to_floats(const char* bytes, size_t count);
