// Files in MNIST's format. The first byte: 0 an image file, 1 a label file, 2 both (the labels' length in the
// next two bytes); + 4: compressed here, so that mutations get past gzip's checksum.
#include <string>

#include <ATen/ATen.h>
#include <spdlog/spdlog.h>
#include <zlib.h>

#include "fuzz/support.h"
#include "tandem/datasets/idx.h"

using namespace tandem;
using namespace tandem::datasets;
using tandem::fuzz::Input;
using tandem::fuzz::require;
using tandem::fuzz::scratch;

namespace {

std::string gzip(std::string_view bytes) {
  z_stream stream{};
  require(deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib starts");
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  require(deflate(&stream, Z_FINISH) == Z_STREAM_END, "zlib compresses");
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::filesystem::path write(const std::string& name, std::string_view bytes, bool compress) {
  return compress ? scratch().write(name, gzip(bytes)) : scratch().write(name, bytes);
}

template <class T>
void check_error(const Result<T>& result) {
  if (!result) require(!result.error().message.empty(), "an error has a text");
}

void read_pair(std::string_view labels, std::string_view images, bool compress) {
  const std::string ending = compress ? ".gz" : "";
  const auto label_file = write("train-labels-idx1-ubyte" + ending, labels, compress);
  const auto image_file = write("train-images-idx3-ubyte" + ending, images, compress);
  const auto dataset = read_idx(scratch().path(), Split::kTrain);
  check_error(dataset);
  if (dataset) {
    const DataDescription description = (*dataset)->describe();
    require(description.num_examples > 0, "a data set that was read has examples");
    require(at::isfinite((*dataset)->inputs().to(at::kFloat)).all().item<bool>(), "inputs are finite");
    require((*dataset)->labels().max().item<int64_t>() < description.num_classes, "labels are classes");
  }
  std::filesystem::remove(label_file);
  std::filesystem::remove(image_file);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  spdlog::set_level(spdlog::level::off);  // warnings of labels that leave most classes without an example
  Input input(data, size);
  const uint8_t mode = input.byte();
  const bool compress = (mode & 4) != 0;
  switch (mode % 4) {
    case 0:
      check_error(read_idx_images(write("file", input.rest(), compress)));
      break;
    case 1:
      check_error(read_idx_labels(write("file", input.rest(), compress)));
      break;
    default: {
      const std::string_view labels = input.take(input.number());
      read_pair(labels, input.rest(), compress);
    }
  }
  return 0;
}
