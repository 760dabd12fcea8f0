#include "tandem/core/data/data_description.h"

#include "support/test.h"

TEST_SUITE("core/data/data_description") {
  TEST_CASE("a shape is written as its sizes joined by x") {
    CHECK(tandem::shape_to_string({1, 28, 28}) == "1x28x28");
    CHECK(tandem::shape_to_string({16}) == "16");
    CHECK(tandem::shape_to_string({}) == "scalar");
  }
}
