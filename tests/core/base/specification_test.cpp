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
                                         {"krum:m=02,f=1", "krum:f=1,m=2"},
                                         {"fedprox:mu=1e-2", "fedprox:mu=0.01"},
                                         {"0.50/0.5, .25/1", "0.5/0.5,0.25/1"},
                                         {"mlp:hidden=256-128", "mlp:hidden=256-128"},
                                         {"x:seed=9007199254740993", "x:seed=9007199254740993"},
                                         {"nan", "nan"}}) {
      CHECK(canonical_specification(text) == expected);
    }
    CHECK(canonical_specification("dirichlet:0.1") != canonical_specification("dirichlet:0.2"));
  }

  using tandem::Argument;
  using tandem::nearest_name;
  using tandem::parse_specification;

  TEST_CASE("the parameters of each specification of a list are put in order, the list is not") {
    using tandem::canonical_specification;
    CHECK(canonical_specification("crop:2, erase:p=0.50,area=1, flip") == "crop:2,erase:area=1,p=0.5,flip");
    CHECK(canonical_specification("synthetic:images,size=8,classes=04") ==
          "synthetic:images,classes=4,size=8");
    CHECK(canonical_specification("krum,m=2,f=1") == canonical_specification("krum:f=1,m=2"));
    CHECK(canonical_specification("drop=0.010,delay=50ms") == "drop=0.01,delay=50ms");
    CHECK(canonical_specification("tcp://[::1]:5555") == "tcp://[::1]:5555");
  }

  TEST_CASE("parse splits name, argument and parameters") {
    const auto data = parse_specification("csv:/data/a:b=c.csv,label=class,group=who=x", Argument::kTaken);
    REQUIRE(data.has_value());
    CHECK(data->name == "csv");
    CHECK(data->argument == "/data/a:b=c.csv");
    REQUIRE(data->parameters.size() == 2);
    CHECK(data->parameters.at("label") == "class");
    CHECK(data->parameters.at("group") == "who=x");
  }

  TEST_CASE("parse takes a bare name, with a further colon only in its parameters") {
    const auto plain = parse_specification("cnn", Argument::kNone);
    REQUIRE(plain.has_value());
    CHECK(plain->name == "cnn");
    CHECK(plain->argument == "");
    CHECK(plain->parameters.empty());

    for (const char* text : {"resnet18:norm=group:8,width=", "resnet18,norm=group:8,width="}) {
      const auto model = parse_specification(text, Argument::kNone);
      REQUIRE(model.has_value());
      CHECK(model->name == "resnet18");
      CHECK(model->argument == "");
      CHECK(model->parameters.at("norm") == "group:8");
      CHECK(model->parameters.at("width") == "");
    }
  }

  TEST_CASE("a comma and a percent sign are escaped in an argument and in a value") {
    const auto data = parse_specification("idx:/a%2Cb/100%25,label=x%2Cy%25", Argument::kTaken);
    REQUIRE(data.has_value());
    CHECK(data->argument == "/a,b/100%");
    CHECK(data->parameters.at("label") == "x,y%");
    CHECK(tandem::escaped_for_specification("/a,b/100%") == "/a%2Cb/100%25");
    for (const std::string part : {"100%", "%", "%2", "%2F", "%%25"}) {
      CAPTURE(part);
      const std::string rule = " has a bare percent sign: write it %25, and a comma %2C";
      CHECK(parse_specification("idx:" + part, Argument::kTaken).error().message ==
            "\"" + part + "\" in \"idx:" + part + "\"" + rule);
      CHECK(parse_specification("mlp:x=" + part, Argument::kNone).error().message ==
            "\"" + part + "\" in \"mlp:x=" + part + "\"" + rule);
    }
  }

  TEST_CASE("the spelling of earlier versions is refused with the text as it is written now") {
    for (const auto& [text, now] : {std::pair<std::string, std::string>{"mlp?hidden=64", "mlp:hidden=64"},
                                    {"resnet18?norm=group&width=8", "resnet18:norm=group,width=8"},
                                    {"synthetic:images?examples=3", "synthetic:images,examples=3"},
                                    {"idx:/a,b/100%?classes=3", "idx:/a%2Cb/100%25,classes=3"}}) {
      CAPTURE(text);
      const auto name = tandem::specification_name(text);
      REQUIRE_FALSE(name.has_value());
      CHECK(name.error().code == tandem::ErrorCode::kInvalidArgument);
      CHECK(name.error().message == "\"" + text + "\": write " + now);
      CHECK(parse_specification(text, Argument::kNone).error().message == name.error().message);
      CHECK(parse_specification(text, Argument::kTaken).error().message == name.error().message);
    }
    CHECK(parse_specification("idx:/what?/x,classes=3", Argument::kTaken).value().argument == "/what?/x");
  }

  TEST_CASE("specification_name is the text before the first colon or comma") {
    CHECK(tandem::specification_name("cnn").value() == "cnn");
    CHECK(tandem::specification_name("idx:/a:b,c=d").value() == "idx");
    CHECK(tandem::specification_name("flip,p=0.5").value() == "flip");
    CHECK(tandem::specification_name(":x").value() == "");
    CHECK(tandem::specification_name("").error().message == "a specification must not be empty");
  }

  TEST_CASE("a list is split where an item begins a specification") {
    using Texts = std::vector<std::string>;
    using tandem::split_specifications;
    CHECK(split_specifications("crop:2,flip") == Texts{"crop:2", "flip"});
    CHECK(split_specifications(" crop:2 , flip ") == Texts{"crop:2", "flip"});
    CHECK(split_specifications("erase:p=0.5,area=1,flip,p=0.3,crop:2") ==
          Texts{"erase:p=0.5,area=1", "flip,p=0.3", "crop:2"});
    CHECK(split_specifications("a:k=v:w,l=x:y") == Texts{"a:k=v:w,l=x:y"});
    CHECK(split_specifications("flip,,crop:2") == Texts{"flip", "", "crop:2"});
    CHECK(split_specifications("p=1,q=2") == Texts{"p=1,q=2"});
    CHECK(split_specifications("") == Texts{""});
  }

  TEST_CASE("parse quotes the part that is wrong") {
    const std::pair<const char*, const char*> cases[] = {
        {"", "a specification must not be empty"},
        {"cnn:", "\"\" in \"cnn:\" is not key=value"},
        {"cnn:norm", "\"norm\" in \"cnn:norm\" is not key=value"},
        {"cnn:a=1,,b=2", "\"\" in \"cnn:a=1,,b=2\" is not key=value"},
        {"cnn:=3", "\"=3\" in \"cnn:=3\" is not key=value"},
        {"cnn:a=1,a=2", "parameter \"a\" is given twice in \"cnn:a=1,a=2\""},
    };
    for (const auto& [text, message] : cases) {
      CAPTURE(text);
      const auto parsed = parse_specification(text, Argument::kNone);
      REQUIRE_FALSE(parsed.has_value());
      CHECK(parsed.error().code == tandem::ErrorCode::kInvalidArgument);
      CHECK(parsed.error().message == message);
    }
  }

  TEST_CASE("check_parameters names the unknown parameter and the nearest known one") {
    const auto model = parse_specification("resnet18:nrom=group", Argument::kNone).value();
    CHECK(tandem::check_parameters(model, {"nrom"}).has_value());

    const auto near = tandem::check_parameters(model, {"width", "norm"});
    REQUIRE_FALSE(near.has_value());
    CHECK(near.error().message == "unknown parameter \"nrom\" of \"resnet18\"; did you mean \"norm\"?");

    const auto far = tandem::check_parameters(model, {"width", "depth"});
    REQUIRE_FALSE(far.has_value());
    CHECK(far.error().message == "unknown parameter \"nrom\" of \"resnet18\"; known are width, depth");

    const auto none =
        tandem::check_parameters(parse_specification("idx:/d,a=1", Argument::kTaken).value(), {});
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
