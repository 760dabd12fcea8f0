// A run directory as the report reads it: metrics.jsonl, summary.json and config.toml, a zero byte between
// them.
#include <string>

#include "fuzz/support.h"
#include "tandem/core/run/report.h"

using namespace tandem;
using tandem::fuzz::Input;
using tandem::fuzz::require;
using tandem::fuzz::scratch;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  scratch().write("metrics.jsonl", input.take_until('\0'));
  if (!input.rest().empty()) {
    scratch().write("summary.json", input.take_until('\0'));
    scratch().write("config.toml", input.rest());
  }
  const auto html = render_report(scratch().path());
  if (html) {
    require(html->find("<script") == std::string::npos, "a report holds nothing that runs");
    // A figure a client's name or value takes a few hundred bytes of markup, whatever it is.
    require(html->size() < 100'000 + 2000 * size, "a report's size follows from its run's");
  } else {
    require(!html.error().message.empty(), "an error has a text");
  }
  scratch().clear();
  return 0;
}
