/// A command where the mean of the last answers reaches the threshold; then a rest.
public struct Commands {
  /// A command, the middle of the window that raised it, and the confidence.
  public struct Event: Equatable {
    public let text: String
    public let timeS: Double
    public let confidence: Double
  }

  static let smoothing = 2

  private let labels: [String]
  private let windowS: Double
  private let hopS: Double
  private let threshold: Double
  private var recent: [[Float]] = []
  private var window = 0
  private var rest = 0

  public init(model: ModelFile, threshold: Double) {
    self.labels = model.labels
    self.windowS = model.windowS
    self.hopS = model.hopS
    self.threshold = threshold
  }

  /// The event that the answer to the next window raises.
  public mutating func hear(_ probabilities: [Float]) -> Event? {
    recent.append(probabilities)
    if recent.count > Commands.smoothing { recent.removeFirst() }
    let means = probabilities.indices.map { k in
      recent.reduce(0.0) { $0 + Double($1[k]) } / Double(recent.count)
    }
    guard let confidence = means.max(), let best = means.firstIndex(of: confidence) else {
      return nil
    }
    let now = window
    window += 1
    let label = labels[best]
    guard now >= rest, confidence >= threshold, Commands.isCommand(label) else { return nil }
    rest = now + max(1, Int(((windowS + hopS) / hopS - 1e-9).rounded(.up)))
    let timeS = Double(now) * hopS + windowS / 2
    return Event(text: label, timeS: timeS, confidence: confidence)
  }

  /// Labels such as _silence_ and _unknown_ are none.
  public static func isCommand(_ label: String) -> Bool {
    !(label.hasPrefix("_") && label.hasSuffix("_"))
  }
}
