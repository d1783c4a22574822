import Foundation
import SpeechRNN
import TensorFlowLite

/// Waveform -> probabilities, one for each label. One thread at a time.
final class Recognizer {
  let file: ModelFile
  private let interpreter: Interpreter
  private var length = 0

  init(path: String) throws {
    file = try ModelFile(content: Data(contentsOf: URL(fileURLWithPath: path)))
    if file.ofSequences { throw Refused("answers with sequences; expected a classifier") }
    interpreter = try Interpreter(modelPath: path)  // it ignores what follows the flatbuffer
  }

  func answer(_ waveform: [Float]) throws -> [Float] {
    if waveform.count != length {
      try interpreter.resizeInput(at: 0, to: Tensor.Shape([1, waveform.count]))
      try interpreter.allocateTensors()
      length = waveform.count
    }
    try interpreter.copy(waveform.withUnsafeBytes { Data($0) }, toInputAt: 0)
    try interpreter.invoke()
    return try interpreter.output(at: 0).data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }
}
