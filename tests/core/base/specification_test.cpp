#include "tandem/core/base/specification.h"

#include "support/test.h"

TEST_SUITE("core/base/specification") {
  TEST_CASE("a value has one spelling") {
    using tandem::canonical_specification;
    for (const auto& [text, expected] : {std::pair<std::string, std::string>{"", ""},
                                         {"fedavg", "fedavg"},
                                         {" crop:2, flip ", "crop:2,flip"},
                                         {"dirichlet:1e-1", "dirichlet:0.1"},
                                         {"dirichlet:0.10", "dirichlet:0.1"},
                                         {"krum?m=02&f=1", "krum?f=1&m=2"},
                                         {"fedprox?mu=1e-2", "fedprox?mu=0.01"},
                                         {"0.50/0.5, .25/1", "0.5/0.5,0.25/1"},
                                         {"mlp?hidden=256-128", "mlp?hidden=256-128"},
                                         {"x?seed=9007199254740993", "x?seed=9007199254740993"},
                                         {"nan", "nan"}}) {
      CHECK(canonical_specification(text) == expected);
    }
    CHECK(canonical_specification("dirichlet:0.1") != canonical_specification("dirichlet:0.2"));
  }

  using tandem::nearest_name;
  using tandem::parse_specification;

  TEST_CASE("parse splits scheme, location and parameters") {
    const auto data = parse_specification("csv:/data/a:b.csv?label=class&group=who=x");
    REQUIRE(data.has_value());
    CHECK(data->scheme == "csv");
    CHECK(data->location == "/data/a:b.csv");
    REQUIRE(data->parameters.size() == 2);
    CHECK(data->parameters.at("label") == "class");
    CHECK(data->parameters.at("group") == "who=x");
  }

  TEST_CASE("parse takes a bare name, with a colon only in its parameters") {
    const auto plain = parse_specification("cnn");
    REQUIRE(plain.has_value());
    CHECK(plain->scheme == "");
    CHECK(plain->location == "cnn");
    CHECK(plain->parameters.empty());

    const auto model = parse_specification("resnet18?norm=group:8&width=");
    REQUIRE(model.has_value());
    CHECK(model->scheme == "");
    CHECK(model->location == "resnet18");
    CHECK(model->parameters.at("norm") == "group:8");
    CHECK(model->parameters.at("width") == "");
  }

  TEST_CASE("parse quotes the part that is wrong") {
    const std::pair<const char*, const char*> cases[] = {
        {"", "a specification must not be empty"},
        {"cnn?", "\"\" in \"cnn?\" is not key=value"},
        {"cnn?norm", "\"norm\" in \"cnn?norm\" is not key=value"},
        {"cnn?a=1&&b=2", "\"\" in \"cnn?a=1&&b=2\" is not key=value"},
        {"cnn?=3", "\"=3\" in \"cnn?=3\" is not key=value"},
        {"cnn?a=1&a=2", "parameter \"a\" is given twice in \"cnn?a=1&a=2\""},
    };
    for (const auto& [text, message] : cases) {
      CAPTURE(text);
      const auto parsed = parse_specification(text);
      REQUIRE_FALSE(parsed.has_value());
      CHECK(parsed.error().code == tandem::ErrorCode::kInvalidArgument);
      CHECK(parsed.error().message == message);
    }
  }

  TEST_CASE("check_parameters names the unknown parameter and the nearest known one") {
    const auto model = parse_specification("resnet18?nrom=group").value();
    CHECK(tandem::check_parameters(model, {"nrom"}).has_value());

    const auto near = tandem::check_parameters(model, {"width", "norm"});
    REQUIRE_FALSE(near.has_value());
    CHECK(near.error().message == "unknown parameter \"nrom\" of \"resnet18\"; did you mean \"norm\"?");

    const auto far = tandem::check_parameters(model, {"width", "depth"});
    REQUIRE_FALSE(far.has_value());
    CHECK(far.error().message == "unknown parameter \"nrom\" of \"resnet18\"; known are width, depth");

    const auto none = tandem::check_parameters(parse_specification("idx:/d?a=1").value(), {});
    REQUIRE_FALSE(none.has_value());
    CHECK(none.error().message == "unknown parameter \"a\" of \"idx\"; it takes none");
  }

  TEST_CASE("parse_integer takes whole numbers inside the range only") {
    CHECK(tandem::parse_integer("shard", "0", 0, 3).value() == 0);
    CHECK(tandem::parse_integer("shard", "3", 0, 3).value() == 3);
    CHECK(tandem::parse_integer("seed", "-9223372036854775808", INT64_MIN, INT64_MAX).value() == INT64_MIN);
    for (const char* text : {"", " 1", "1 ", "+1", "1.0", "0x1", "one", "-1", "4", "9223372036854775808"}) {
      CAPTURE(text);
      const auto parsed = tandem::parse_integer("shard", text, 0, 3);
      REQUIRE_FALSE(parsed.has_value());
      CHECK(parsed.error().message ==
            "shard must be a whole number from 0 to 3, got \"" + std::string(text) + "\"");
    }
    CHECK(tandem::parse_integer("n", "x", 1, INT64_MAX).error().message ==
          "n must be a whole number >= 1, got \"x\"");
    CHECK(tandem::parse_integer("n", "x", INT64_MIN, 7).error().message ==
          "n must be a whole number <= 7, got \"x\"");
  }

  TEST_CASE("parse_number refuses what is not finite or out of range") {
    CHECK(tandem::parse_number("alpha", "0.5", 0, 1).value() == 0.5);
    CHECK(tandem::parse_number("alpha", "1e-3", 0, 1).value() == 1e-3);
    for (const char* text : {"", "nan", "inf", "-inf", "1.1", "-0.1", "0.5x", "1e999"}) {
      CAPTURE(text);
      const auto parsed = tandem::parse_number("alpha", text, 0, 1);
      REQUIRE_FALSE(parsed.has_value());
      CHECK(parsed.error().message ==
            "alpha must be a finite number from 0 to 1, got \"" + std::string(text) + "\"");
    }
  }

  TEST_CASE("nearest_name finds typing mistakes and nothing farther") {
    const std::vector<std::string> names = {"rounds", "round-timeout", "seed", "cut"};
    CHECK(nearest_name("round", names) == "rounds");
    CHECK(nearest_name("ruonds", names) == "rounds");              // one swap
    CHECK(nearest_name("sede", names) == "seed");                  // one swap
    CHECK(nearest_name("ct", names) == "cut");                     // one insertion; the limit is 1
    CHECK(nearest_name("rnds", names) == std::nullopt);            // two insertions, the limit is 1
    CHECK(nearest_name("roundtimeot", names) == "round-timeout");  // two, the limit is 3
    CHECK(nearest_name("model", names) == std::nullopt);
    CHECK(nearest_name("", names) == std::nullopt);
    CHECK(nearest_name("seed", {}) == std::nullopt);
  }
}
