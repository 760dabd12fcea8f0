#include "merging.h"
//
#include "support/test.h"

using namespace tandem;
using namespace tandem::aggregator;
using namespace tandem::aggregator::testing;

TEST_SUITE("aggregator/strategies/strategy") {
  TEST_CASE("every strategy is made under its name, and the default is FedAvg") {
    const std::vector<std::string> expected = {
        "fedavg",   "fedprox", "fedavgm",      "fedadam", "fedyogi",    "fedadagrad", "fednova",
        "scaffold", "median",  "trimmed-mean", "krum",    "multi-krum", "bulyan",     "fedbuff"};
    CHECK(strategy_names() == expected);
    for (const std::string& name : expected) CHECK(make(name)->name() == name);
    CHECK(make_strategy({}).value()->name() == "fedavg");
  }

  TEST_CASE("all documented parameters are known") {
    for (const char* specification :
         {"fedavgm:beta=0.9,eta=1", "fedadam:eta=0.01,beta1=0.9,beta2=0.99,tau=0.001,v0=0",
          "fedyogi:eta=0.01,beta1=0.9,beta2=0.99,tau=0.001,v0=0", "fedadagrad:eta=0.1,beta1=0,tau=0.5,v0=0",
          "fedprox:mu=0", "scaffold:eta=1", "trimmed-mean:fraction=0", "krum:f=2", "multi-krum:f=2,m=5",
          "bulyan:f=2", "fedbuff:buffer=10,eta=1"}) {
      CAPTURE(specification);
      CHECK(make_strategy({specification}));
    }
  }

  TEST_CASE("a wrong specification is refused by name, alike for the strategy and its traits") {
    const std::string known =
        "fedavg, fedprox, fedavgm, fedadam, fedyogi, fedadagrad, fednova, scaffold, median, trimmed-mean, "
        "krum, "
        "multi-krum, bulyan, fedbuff";
    const std::vector<std::pair<std::string, std::string>> cases = {
        {"", "a specification must not be empty"},
        {"fedavgg", "unknown strategy \"fedavgg\"; did you mean \"fedavg\"?"},
        {"medain", "unknown strategy \"medain\"; did you mean \"median\"?"},
        {"something", "unknown strategy \"something\"; known are " + known},
        {"fedavg:weights", "\"weights\" in \"fedavg:weights\" is not key=value"},
        {"avg:weights", "unknown strategy \"avg\"; known are " + known},
        {"krum?f=1&m=2", "\"krum?f=1&m=2\": write krum:f=1,m=2"},
        {"fedavg:eta=1", "unknown parameter \"eta\" of \"fedavg\"; it takes none"},
        {"fedadam:bta1=0.5", "unknown parameter \"bta1\" of \"fedadam\"; did you mean \"beta1\"?"},
        {"fedadagrad:beta2=0.9", "unknown parameter \"beta2\" of \"fedadagrad\"; did you mean \"beta1\"?"},
        {"krum:attackers=1", "unknown parameter \"attackers\" of \"krum\"; known are f"},
        {"fedadam:eta=fast",
         "strategy fedadam: eta must be a finite number from 1e-09 to 1000, got \"fast\""},
        {"fedavgm:beta=1", "strategy fedavgm: beta must be below 1, got \"1\""},
        {"fedprox:mu=-1", "strategy fedprox: mu must be a finite number from 0 to 1e+06, got \"-1\""},
        {"trimmed-mean:fraction=0.5", "strategy trimmed-mean: fraction must be below 0.5, got \"0.5\""},
        {"krum:f=1.5", "strategy krum: f must be a whole number from 0 to 10000, got \"1.5\""},
        {"multi-krum:m=0", "strategy multi-krum: m must be a whole number from 1 to 1000000, got \"0\""},
        {"fedbuff:buffer=0", "strategy fedbuff: buffer must be a whole number from 1 to 1000000, got \"0\""},
        {"krum:f=1,f=2", "parameter \"f\" is given twice in \"krum:f=1,f=2\""},
    };
    for (const auto& [specification, message] : cases) {
      CAPTURE(specification);
      const auto made = make_strategy({specification});
      REQUIRE_FALSE(made);
      CHECK(made.error().code == ErrorCode::kInvalidArgument);
      CHECK(made.error().message == message);
      const auto traits = strategy_traits(specification);
      REQUIRE_FALSE(traits);
      CHECK(traits.error().message == message);
    }
  }

  TEST_CASE("a momentum outside [0, 1) is refused") {
    for (const double momentum : {-0.1, 1.0, std::nan("")}) {
      const auto made = make_strategy({.specification = "fednova", .momentum = momentum});
      REQUIRE_FALSE(made);
      CHECK(made.error().message.find("StrategyOptions.momentum must be in [0, 1), got ") == 0);
    }
  }

  TEST_CASE("traits tell clients and session what to do") {
    CHECK(strategy_traits("fedprox:mu=0.5").value().proximal_mu == 0.5);
    CHECK(strategy_traits("fedprox").value().proximal_mu == 0.01);
    CHECK(strategy_traits("fedbuff:buffer=3").value().buffer == 3);
    CHECK(strategy_traits("fedbuff").value().buffer == 10);
    CHECK(strategy_traits("fedbuff:order=planned").value().planned_order);
    CHECK_FALSE(strategy_traits("fedbuff:order=arrival").value().planned_order);
    CHECK_FALSE(strategy_traits("fedbuff").value().planned_order);
    CHECK(strategy_traits("krum:f=2").value().minimum_updates == 7);
    for (const std::string& name : strategy_names()) {
      CAPTURE(name);
      const StrategyTraits traits = strategy_traits(name).value();
      CHECK(traits.name == name);
      CHECK(traits.control_variates == (name == "scaffold"));
      CHECK((traits.proximal_mu > 0) == (name == "fedprox"));
      CHECK((traits.buffer > 0) == (name == "fedbuff"));
      const std::set<std::string> robust = {"median", "trimmed-mean", "krum", "multi-krum", "bulyan"};
      CHECK(traits.needs_single_updates == (robust.count(name) > 0));
      CHECK(make(name)->needs_single_updates() == traits.needs_single_updates);
    }
  }
}
