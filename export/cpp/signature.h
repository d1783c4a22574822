// A model as LiteRT runs it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "files.h"
#include "litert_c.h"

// Numbers, of which one kind is used.
struct Tensor {
  std::vector<int> shape;
  std::vector<float> floats;
  std::vector<int32_t> integers;

  static Tensor of(std::vector<int> shape, std::vector<float> floats) {
    return {std::move(shape), std::move(floats), {}};
  }
  static Tensor scalar(int32_t value) { return {{}, {}, {value}}; }
};

// One signature of a file, called with tensors by name. One thread at a time.
class Signature {
 public:
  using Tensors = std::map<std::string, Tensor>;

  Signature(const File& file, const std::string& name);
  ~Signature();
  Signature(const Signature&) = delete;

  // The first input may have changed its shape since the last call. `most_rows` is what an output
  // may have at most whose length the model does not know before it has run.
  Tensors call(const Tensors& inputs, size_t most_rows = 0);

 private:
  void resize(const std::vector<int>& shape);

  std::string path_;
  LiteRtEnvironment environment_ = nullptr;
  LiteRtModel model_ = nullptr;
  LiteRtOptions options_ = nullptr;
  LiteRtCompiledModel compiled_ = nullptr;
  size_t index_ = 0;
  std::vector<std::string> inputs_, outputs_;
  std::vector<bool> integer_outputs_;
  std::vector<int> shape_;  // of the first input
  std::vector<LiteRtLayout> layouts_;
};
