// Sound as it comes -> events. The same as export/board/listen.py.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model.h"

struct Event {
  std::string text;
  double time_s;
  double confidence;
};

// What turns sound into answers as it comes.
struct Source {
  double window_s, hop_s, first_s = 0;
  int smoothing, unfilled = 0;

  virtual ~Source() = default;
  virtual std::vector<Answer> feed(const Samples& samples) = 0;
  virtual std::vector<Answer> finish() { return {}; }
};

// What turns answers into events.
struct Hearing {
  virtual ~Hearing() = default;
  // The events that this answer completes: one, or none.
  virtual std::vector<Event> hear(const Answer& answer) = 0;
  virtual std::vector<Event> end() { return {}; }
};

// Hears events in sound that comes in pieces of any size.
class Listener {
 public:
  Listener(Model& model, double threshold);

  std::vector<Event> feed(const Samples& samples);
  // The events that the end completes.
  std::vector<Event> finish();

 private:
  std::unique_ptr<Source> source_;
  std::unique_ptr<Hearing> hearing_;
};
