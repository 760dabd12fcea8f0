// What differs from a recorded run.
#include "core/program/flags_program.h"
#include "support/test.h"

using namespace tandem::testing;

TEST_SUITE("core/program/flags_resume") {
  TEST_CASE("what differs from a recorded run is found by value, all at once") {
    FlagsFolder folder;
    const std::string data = (folder.path / "mnist").string();
    const std::string file = folder.write("config.toml",
                                          "lr = 0.1\nname = \"crop:2,flip\"\nseed = 7\nrun-dir = \"a\"\n"
                                          "data = \"idx:mnist\"\nrounds = 3\nof-a-later-version = 1\n");
    const std::string same_data = "idx:" + data + "/../mnist/";
    const std::string same_dir = (folder.path / "b/../a/").string();
    Program same;
    CHECK(same.parse({"--lr", "1e-1", "--name", " crop:2, flip", "--seed", "7", "--data", same_data.c_str(),
                      "--run-dir", same_dir.c_str(), "--rounds", "3"}) == std::nullopt);
    CHECK(same.flags.differences_from(file).value().empty());

    Program other;
    CHECK(other.parse({"--name", "", "--data", "idx:/other", "--run-dir", same_dir.c_str(), "--rounds",
                       "3"}) == std::nullopt);
    CHECK(tandem::Flags::text_of(other.flags.differences_from(file).value()) ==
          "--lr 0.1, now 0.05; --seed 7, now 1; --name crop:2,flip, now \"\"; --data idx:" + data +
              ", now idx:/other");
    const std::string broken = folder.write("broken.toml", "lr = \"x\"\n");
    CHECK(other.flags.differences_from(broken).error().message ==
          "key \"lr\" in " + broken + ":1 must be a number, found the string \"x\"");
  }

  TEST_CASE("an option belongs to the run always, never, or while a condition holds") {
    FlagsFolder folder;
    const std::string file = folder.write("config.toml", "[all]\nthreads = 1\nrounds = 3\n");
    for (const bool spans_run : {false, true}) {
      tandem::Flags flags("p", "d");
      int32_t threads = 2;
      int32_t rounds = 9;
      flags.section("all", "All");
      flags.add("threads", threads, "").not_of_the_run();
      flags.add("rounds", rounds, "").of_the_run_while("while the run is spanned", [&] { return spans_run; });
      CHECK(tandem::Flags::text_of(flags.differences_from(file).value()) ==
            (spans_run ? "--rounds 3, now 9" : ""));
    }
  }

  TEST_CASE("specifications are compared with their defaults") {
    FlagsFolder folder;
    const std::string file = folder.write("config.toml", "optimizer = \"sgd:momentum=0.90\"\n");
    for (const auto& [now, difference] :
         {std::pair<std::string, std::string>{"sgd:momentum=9e-1,decay=0", ""},
          {"sgd", "--optimizer sgd:momentum=0.90, now sgd"}}) {
      tandem::Flags flags("p", "d");
      std::string optimizer = now;
      using Kind = tandem::FormParameter::Kind;
      flags.add("optimizer", optimizer, "")
          .takes({{"sgd", "", {{"momentum", Kind::kNumber, {}, "0"}, {"decay", Kind::kNumber, {}, "0"}}}});
      CHECK(tandem::Flags::text_of(flags.differences_from(file).value()) == difference);
    }
  }

  TEST_CASE("a run that was recorded with flags of earlier versions says how they are spelled now") {
    FlagsFolder folder;
    const std::string file = folder.write("config.toml", "optimizer = \"sgd\"\nmomentum = 0.9\n");
    tandem::Flags flags("p", "d");
    std::string optimizer = "sgd";
    flags.add("optimizer", optimizer, "").replaces("momentum", "momentum");
    CHECK(flags.differences_from(file).error().message ==
          "key \"momentum\" in " + file +
              ":2 is now part of \"optimizer\": optimizer = \"sgd:momentum=0.9\"");
  }
}
