/// Overlapping windows of sound that comes in pieces of any size.
public struct Windows {
  private let rateHz: Int
  private let hopS: Double
  private let length: Int
  private var waiting: [Float] = []
  private var dropped = 0
  private var count = 0

  public init(model: ModelFile) {
    self.rateHz = model.sampleRateHz
    self.hopS = model.hopS
    self.length = Int((model.windowS * Double(rateHz)).rounded(.toNearestOrEven))
  }

  /// The windows that these samples fill.
  public mutating func feed(_ samples: [Float]) -> [[Float]] {
    waiting += samples
    var windows: [[Float]] = []
    while start + length <= waiting.count {
      windows.append(Array(waiting[start..<start + length]))
      count += 1
    }
    let done = min(start, waiting.count)
    waiting.removeFirst(done)
    dropped += done
    return windows
  }

  /// The next window's first sample among those that wait; rounding does not add up.
  private var start: Int {
    Int((Double(count) * hopS * Double(rateHz)).rounded(.toNearestOrEven)) - dropped
  }
}
