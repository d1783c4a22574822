#include "files.h"

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

namespace {

const char kFormat[] = "speechrnn-tflite";
const int kFormatVersion = 1;

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  if (!file || !(content << file.rdbuf())) {
    throw Refused(path + ": cannot be read (" + (errno ? std::strerror(errno) : "empty") + ")");
  }
  return content.str();
}

uint32_t little_endian(const std::string& bytes, size_t at, int count) {
  if (at + count > bytes.size()) throw Refused("ends too early");
  uint32_t value = 0;
  for (int i = count - 1; i >= 0; --i) value = value << 8 | uint8_t(bytes[at + i]);
  return value;
}

// ---------------------------------------------------------------- JSON

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  Json parse() {
    Json value = read(0);
    if (peek()) fail();
    return value;
  }

 private:
  [[noreturn]] void fail() const { throw Refused("is no JSON at byte " + std::to_string(at_)); }

  char peek() {
    while (at_ < text_.size() && std::strchr(" \t\r\n", text_[at_])) ++at_;
    return at_ < text_.size() ? text_[at_] : 0;
  }

  bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  bool take(const char* word) {
    if (text_.compare(at_, std::strlen(word), word) != 0) return false;
    at_ += std::strlen(word);
    return true;
  }

  Json read(int depth) {
    if (depth > 100) fail();
    Json value;
    const char next = peek();
    if (next == '{') {
      value.kind = Json::kMapping;
      ++at_;
      if (take('}')) return value;
      do {
        const std::string key = (peek(), string());
        if (!take(':')) fail();
        value.mapping[key] = read(depth + 1);
      } while (take(','));
      if (!take('}')) fail();
    } else if (next == '[') {
      value.kind = Json::kList;
      ++at_;
      if (take(']')) return value;
      do value.list.push_back(read(depth + 1));
      while (take(','));
      if (!take(']')) fail();
    } else if (next == '"') {
      value.kind = Json::kText;
      value.text = string();
    } else if (take("true")) {
      value.kind = Json::kNumber;
      value.number = 1;
    } else if (take("false")) {
      value.kind = Json::kNumber;
    } else if (!take("null")) {
      char* end = nullptr;
      value.kind = Json::kNumber;
      value.number = std::strtod(text_.c_str() + at_, &end);
      if (end == text_.c_str() + at_) fail();
      at_ = end - text_.c_str();
    }
    return value;
  }

  uint32_t hexadecimal() {
    if (at_ + 4 > text_.size()) fail();
    const uint32_t value = std::strtoul(text_.substr(at_, 4).c_str(), nullptr, 16);
    at_ += 4;
    return value;
  }

  std::string string() {
    if (!take('"')) fail();
    std::string value;
    while (at_ < text_.size() && text_[at_] != '"') {
      if (text_[at_] != '\\') {
        value += text_[at_++];
        continue;
      }
      const char escape = ++at_ < text_.size() ? text_[at_++] : 0;
      const char* plain = escape ? std::strchr("\"\"\\\\//b\bf\fn\nr\rt\t", escape) : nullptr;
      if (escape == 'u') {
        uint32_t code = hexadecimal();
        if (code >= 0xD800 && code < 0xDC00 && take("\\u")) {
          code = 0x10000 + ((code - 0xD800) << 10) + (hexadecimal() - 0xDC00);
        }
        append_utf8(value, code);
      } else if (plain) {
        value += plain[1];
      } else {
        fail();
      }
    }
    if (at_ >= text_.size()) fail();
    ++at_;
    return value;
  }

  static void append_utf8(std::string& text, uint32_t code) {
    if (code < 0x80) {
      text += char(code);
      return;
    }
    const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    const int leads[] = {0xC0, 0xE0, 0xF0};
    text += char(leads[more - 1] | code >> (6 * more));
    for (int i = more - 1; i >= 0; --i) text += char(0x80 | (code >> (6 * i) & 0x3F));
  }

  const std::string& text_;
  size_t at_ = 0;
};

// ---------------------------------------------------------------- the zip behind the flatbuffer

// An entry that is stored as it is; "" where there is none of this name.
std::string zip_entry(const std::string& content, const std::string& name) {
  const size_t end = content.rfind("PK\5\6");
  if (end == std::string::npos) return "";
  size_t at = little_endian(content, end + 16, 4);
  for (uint32_t left = little_endian(content, end + 10, 2); left; --left) {
    const uint32_t method = little_endian(content, at + 10, 2);
    const uint32_t size = little_endian(content, at + 24, 4);
    const uint32_t name_size = little_endian(content, at + 28, 2);
    const uint32_t rest = little_endian(content, at + 30, 2) + little_endian(content, at + 32, 2);
    const size_t header = little_endian(content, at + 42, 4);
    if (content.compare(at + 46, name_size, name) == 0 && method == 0) {
      const size_t first = header + 30 + little_endian(content, header + 26, 2) +
                           little_endian(content, header + 28, 2);
      return first + size <= content.size() ? content.substr(first, size) : "";
    }
    at += 46 + name_size + rest;
  }
  return "";
}

// ---------------------------------------------------------------- SHA-256 (FIPS 180-4)

uint32_t rotate(uint32_t x, int by) { return x >> by | x << (32 - by); }

// The first 32 bits of the fraction of a root of a prime: where the constants come from.
uint32_t fraction_of_root(int prime, int degree) {
  long double low = 0, high = prime;
  for (int i = 0; i < 100; ++i) {
    const long double middle = (low + high) / 2;
    const long double power = degree == 2 ? middle * middle : middle * middle * middle;
    (power < prime ? low : high) = middle;
  }
  return uint32_t((low - (long double)(uint64_t)low) * 4294967296.0L);
}

std::string sha256(const std::string& message, size_t size) {
  uint32_t constants[64], hash[8];
  for (int prime = 2, n = 0; n < 64; ++prime) {
    bool is_prime = true;
    for (int d = 2; d * d <= prime; ++d) is_prime = is_prime && prime % d;
    if (!is_prime) continue;
    if (n < 8) hash[n] = fraction_of_root(prime, 2);
    constants[n++] = fraction_of_root(prime, 3);
  }
  std::string padded = message.substr(0, size) + '\x80';
  padded.resize((padded.size() + 8 + 63) / 64 * 64 - 8);
  for (int i = 7; i >= 0; --i) padded += char(uint64_t(size) * 8 >> (8 * i));
  for (size_t block = 0; block < padded.size(); block += 64) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; ++i) {
      const uint8_t* at = reinterpret_cast<const uint8_t*>(&padded[block + 4 * i]);
      w[i] = uint32_t(at[0]) << 24 | at[1] << 16 | at[2] << 8 | at[3];
    }
    for (int i = 16; i < 64; ++i) {
      const uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
             (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
    }
    std::memcpy(s, hash, sizeof(s));
    for (int i = 0; i < 64; ++i) {
      const uint32_t one = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                           ((s[4] & s[5]) ^ (~s[4] & s[6])) + constants[i] + w[i];
      const uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                           ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      std::memmove(s + 1, s, 7 * sizeof(uint32_t));
      s[4] += one;
      s[0] = one + two;
    }
    for (int i = 0; i < 8; ++i) hash[i] += s[i];
  }
  char text[65];
  for (int i = 0; i < 8; ++i) std::snprintf(text + 8 * i, 9, "%08x", hash[i]);
  return text;
}

}  // namespace

const Json& Json::operator[](const std::string& key) const {
  const auto found = mapping.find(key);
  if (found == mapping.end()) throw Refused("lacks '" + key + "'");
  return found->second;
}

double Json::number_or(const std::string& key, double otherwise) const {
  const auto found = mapping.find(key);
  return found != mapping.end() && found->second.kind == kNumber ? found->second.number : otherwise;
}

File read_model(const std::string& path) {
  File file{path, read_all(path), 0, {}};
  const std::string& content = file.content;
  if (content.size() < 8 || content.compare(4, 4, "TFL3") != 0) {
    throw Refused(path + ": is no TFLite model; expected a .tflite from speechrnn export");
  }
  std::string document;
  try {
    document = zip_entry(content, "speechrnn.json");
  } catch (const Refused&) {
  }
  if (document.empty()) {
    throw Refused(path + ": carries no metadata of speechrnn; was it cut short?");
  }
  try {
    file.about = Parser(document).parse();
    if (file.about["format"].text != kFormat ||
        file.about["format_version"].number != kFormatVersion) {
      std::ostringstream got;
      got << "is of format " << file.about["format"].text << " "
          << file.about["format_version"].number << ", expected " << kFormat << " "
          << kFormatVersion;
      throw Refused(got.str());
    }
    const double bytes = file.about["model_bytes"].number;
    if (!(bytes > 0 && bytes <= content.size()) ||
        sha256(content, size_t(bytes)) != file.about["model_sha256"].text) {
      throw Refused("was changed after it was exported; export it again");
    }
    file.model_bytes = size_t(bytes);
  } catch (const Refused& error) {
    throw Refused(path + ": " + error.what());
  }
  return file;
}

std::vector<float> to_floats(const char* bytes, size_t count) {
  std::vector<float> samples(count);
  for (size_t i = 0; i < count; ++i) {
    const uint8_t low = bytes[2 * i], high = bytes[2 * i + 1];
    samples[i] = int16_t(high << 8 | low) / 32768.0f;
  }
  return samples;
}

std::vector<float> read_wav(const std::string& path, int rate_hz, double longest_s) {
  const std::string content = read_all(path);
  if (content.size() < 12 || content.compare(0, 4, "RIFF") != 0 ||
      content.compare(8, 4, "WAVE") != 0) {
    throw Refused(path + ": is no WAV file");
  }
  bool described = false;
  for (size_t at = 12; at + 8 <= content.size();) {
    const std::string kind = content.substr(at, 4);
    const size_t size = little_endian(content, at + 4, 4), first = at + 8;
    if (kind == "fmt " && first + 16 <= content.size()) {
      const uint32_t format = little_endian(content, first, 2);
      const uint32_t channels = little_endian(content, first + 2, 2);
      const uint32_t rate = little_endian(content, first + 4, 4);
      const uint32_t bits = little_endian(content, first + 14, 2);
      described = true;
      if (format != 1 || channels != 1 || bits != 16 || int(rate) != rate_hz) {
        std::ostringstream got;
        got << path << ": format " << format << ", " << channels << " channels, " << bits
            << " bits, " << rate << " Hz; expected integers, 1 channel, 16 bits, " << rate_hz
            << " Hz";
        throw Refused(got.str());
      }
    }
    if (kind == "data" && described) {
      const size_t count = std::min(size, content.size() - first) / 2;
      if (count > longest_s * rate_hz) {
        std::ostringstream got;
        got << path << ": " << count / rate_hz << " s, expected at most " << longest_s
            << "; cut it";
        throw Refused(got.str());
      }
      return to_floats(&content[first], count);
    }
    at = first + size + size % 2;
  }
  throw Refused(path + ": is a WAV file without samples");
}
