#include "signature.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace {

// As long as it lasts, standard error goes nowhere: LiteRT announces its delegate there.
class Quiet {
#if defined(__unix__) || defined(__APPLE__)
 public:
  Quiet() : saved_(dup(2)) {
    const int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere < 0) return;
    dup2(nowhere, 2);
    close(nowhere);
  }
  ~Quiet() {
    if (saved_ < 0) return;
    dup2(saved_, 2);
    close(saved_);
  }

 private:
  int saved_;
#endif
};

// Memory for a tensor's values, aligned as LiteRT wants it, and the buffer that names it.
class Buffer {
 public:
  Buffer(int type, const std::vector<int>& shape, size_t count)
      : memory_(count * 4 + kLiteRtHostMemoryAlignment) {
    const auto first = reinterpret_cast<uintptr_t>(memory_.data());
    const uintptr_t step = kLiteRtHostMemoryAlignment;
    values_ = memory_.data() + ((first + step - 1) / step * step - first);
    LiteRtRankedTensorType described{};
    described.element_type = type;
    described.layout.rank = shape.size();
    std::copy(shape.begin(), shape.end(), described.layout.dimensions);
    if (LiteRtCreateTensorBufferFromHostMemory(&described, values_, count * 4, nullptr, &handle)) {
      throw Refused("no memory for a tensor");
    }
  }
  ~Buffer() {
    if (handle) LiteRtDestroyTensorBuffer(handle);
  }
  Buffer(Buffer&& other) : handle(other.handle), memory_(std::move(other.memory_)) {
    values_ = other.values_;
    other.handle = nullptr;
  }

  char* values() { return values_; }

  LiteRtTensorBuffer handle = nullptr;

 private:
  std::vector<char> memory_;
  char* values_;
};

size_t size_of(const std::vector<int>& shape) {
  return std::accumulate(shape.begin(), shape.end(), size_t{1}, std::multiplies<size_t>());
}

std::vector<int> shape_of(const LiteRtLayout& layout) {
  return {layout.dimensions, layout.dimensions + layout.rank};
}

}  // namespace

Signature::Signature(const File& file, const std::string& name) : path_(file.path) {
  [[maybe_unused]] const Quiet quiet;
  // The processor alone: no search for others, so it starts faster.
  const LiteRtEnvOption options[] = {
      {kLiteRtEnvOptionTagAutoRegisterAccelerators, {kLiteRtAnyTypeInt, kLiteRtHwAcceleratorCpu}},
      {kLiteRtEnvOptionTagMinLoggerSeverity, {kLiteRtAnyTypeInt, kLiteRtLogSeveritySilent}},
  };
  if (LiteRtCreateEnvironment(2, options, &environment_) ||
      LiteRtCreateModelFromBuffer(environment_, file.content.data(), file.model_bytes, &model_) ||
      LiteRtCreateOptions(&options_) ||
      LiteRtSetOptionsHardwareAccelerators(options_, kLiteRtHwAcceleratorCpu) ||
      LiteRtCreateCompiledModel(environment_, model_, options_, &compiled_)) {
    throw Refused(path_ + ": LiteRT cannot run it");
  }
  size_t count = 0;
  LiteRtSignature signature = nullptr;
  LiteRtGetNumModelSignatures(model_, &count);
  const char* key = "";
  for (index_ = 0; index_ < count; ++index_) {
    LiteRtGetModelSignature(model_, index_, &signature);
    LiteRtGetSignatureKey(signature, &key);
    if (name == key) break;
  }
  if (index_ == count) throw Refused(path_ + ": has no signature '" + name + "'");
  LiteRtGetNumSignatureInputs(signature, &count);
  for (size_t i = 0; i < count; ++i) {
    LiteRtGetSignatureInputName(signature, i, &key);
    inputs_.push_back(key);
  }
  LiteRtGetNumSignatureOutputs(signature, &count);
  for (size_t i = 0; i < count; ++i) {
    LiteRtTensor tensor = nullptr;
    LiteRtRankedTensorType type{};
    LiteRtGetSignatureOutputName(signature, i, &key);
    LiteRtGetSignatureOutputTensorByIndex(signature, i, &tensor);
    LiteRtGetRankedTensorType(tensor, &type);
    outputs_.push_back(key);
    integer_outputs_.push_back(type.element_type == kLiteRtElementTypeInt32);
  }
  layouts_.resize(count);
}

Signature::~Signature() {
  if (compiled_) LiteRtDestroyCompiledModel(compiled_);
  if (options_) LiteRtDestroyOptions(options_);
  if (model_) LiteRtDestroyModel(model_);
  if (environment_) LiteRtDestroyEnvironment(environment_);
}

void Signature::resize(const std::vector<int>& shape) {
  if (shape == shape_) return;
  [[maybe_unused]] const Quiet quiet;
  shape_.clear();
  LiteRtCompiledModelResizeInputTensor(compiled_, index_, 0, shape.data(), shape.size());
  if (LiteRtGetCompiledModelOutputTensorLayouts(compiled_, index_, layouts_.size(),
                                                layouts_.data(), true)) {
    throw Refused(path_ + ": LiteRT has no memory for a recording as long as this");
  }
  shape_ = shape;
}

Signature::Tensors Signature::call(const Tensors& inputs, size_t most_rows) {
  if (inputs_.size() == 1) resize(inputs.begin()->second.shape);
  else if (shape_.empty()) resize(inputs.at(inputs_[0]).shape);
  std::vector<Buffer> buffers;
  for (const std::string& name : inputs_) {
    const Tensor& tensor = inputs.at(name);
    const bool whole = tensor.floats.empty();
    if (whole && tensor.integers.empty()) {
      throw Refused(path_ + ": " + name + " is empty, which LiteRT's C interface does not take; "
                    "export it with windows longer than their hop");
    }
    const size_t count = whole ? tensor.integers.size() : tensor.floats.size();
    buffers.emplace_back(whole ? kLiteRtElementTypeInt32 : kLiteRtElementTypeFloat32, tensor.shape,
                         count);
    const void* values = whole ? static_cast<const void*>(tensor.integers.data())
                               : static_cast<const void*>(tensor.floats.data());
    std::memcpy(buffers.back().values(), values, count * 4);
  }
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const std::vector<int> shape = shape_of(layouts_[i]);
    const size_t rows = most_rows * (shape.size() > 1 ? shape.back() : 1);
    buffers.emplace_back(
        integer_outputs_[i] ? kLiteRtElementTypeInt32 : kLiteRtElementTypeFloat32, shape,
        std::max(size_of(shape), rows));
  }
  std::vector<LiteRtTensorBuffer> handles;
  for (const Buffer& buffer : buffers) handles.push_back(buffer.handle);
  if (LiteRtRunCompiledModel(compiled_, index_, inputs_.size(), handles.data(), outputs_.size(),
                             handles.data() + inputs_.size())) {
    throw Refused(path_ + ": LiteRT failed to run it");
  }
  std::vector<LiteRtLayout> found(layouts_.size());
  LiteRtGetCompiledModelOutputTensorLayouts(compiled_, index_, found.size(), found.data(), false);
  Tensors answers;
  for (size_t i = 0; i < outputs_.size(); ++i) {
    Tensor& tensor = answers[outputs_[i]];
    tensor.shape = shape_of(found[i]);
    const size_t count = size_of(tensor.shape);
    const char* values = buffers[inputs_.size() + i].values();
    if (integer_outputs_[i]) {
      tensor.integers.resize(count);
      std::memcpy(tensor.integers.data(), values, count * 4);
    } else {
      tensor.floats.resize(count);
      std::memcpy(tensor.floats.data(), values, count * 4);
    }
  }
  return answers;
}
