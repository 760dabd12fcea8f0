#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "core/run/temporary_folder.h"
#include "support/test.h"
#include "tandem/core/program/flags.h"

namespace tandem::testing {

/// Collects what goes to std::cout and std::cerr while it lives.
class Captured {
 public:
  Captured() : cout_(std::cout.rdbuf(out_.rdbuf())), cerr_(std::cerr.rdbuf(err_.rdbuf())) {}
  ~Captured() {
    std::cout.rdbuf(cout_);
    std::cerr.rdbuf(cerr_);
  }
  std::string out() const { return out_.str(); }
  std::string err() const { return err_.str(); }

 private:
  std::ostringstream out_, err_;
  std::streambuf* cout_;
  std::streambuf* cerr_;
};

/// A folder for files that --config names.
struct FlagsFolder : TemporaryFolder {
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
    return (path / name).string();
  }
};

/// Flags of every kind, as a program would declare them.
struct Program {
  Program() : flags("tandem-test", "Tests flags.") {
    flags.section("training", "Training");
    flags.add("rounds", rounds, "how many rounds");
    flags.add("lr", lr, "learning rate");
    flags.add_choice("algorithm", algorithm, {"parallel", "relay", "splitfed-v1"}, "the schedule");
    flags.section("rest", "Rest");
    flags.add("seed", seed, "seed of the run");
    flags.add("offset", offset, "any whole number");
    flags.add("small", small, "a small whole number");
    flags.add("name", name, "a text");
    flags.add("insecure", insecure, "no encryption");
    flags.add("device", devices, "a device");
    flags.add_path("run-dir", run_dir, "where results go");
    flags.add_data("data", data, "what it is about");
  }

  std::optional<int> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "tandem-test");
    return flags.parse(static_cast<int>(arguments.size()), arguments.data());
  }

  /// The message of a parse that must fail, without the program's name and the hint.
  std::string mistake(const std::vector<const char*>& arguments) {
    Captured captured;
    const auto status = parse(arguments);
    CHECK(status == tandem::kExitUsage);
    CHECK(captured.out() == "");
    std::string text = captured.err();
    const std::string head = "tandem-test: ";
    const std::string tail = " (run tandem-test --help)\n";
    REQUIRE(text.size() >= head.size() + tail.size());
    CHECK(text.substr(0, head.size()) == head);
    CHECK(text.substr(text.size() - tail.size()) == tail);
    return text.substr(head.size(), text.size() - head.size() - tail.size());
  }

  uint32_t rounds = 5;
  double lr = 0.05;
  std::string algorithm = "parallel";
  uint64_t seed = 1;
  int64_t offset = 0;
  int32_t small = 0;
  std::string name;
  bool insecure = false;
  std::vector<std::string> devices;
  std::filesystem::path run_dir = "runs/first";
  std::string data;
  tandem::Flags flags;
};

}  // namespace tandem::testing
