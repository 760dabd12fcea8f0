#include "tandem/datasets/idx.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tandem/datasets/class_count.h"
#include "tandem/datasets/gzip_reader_detail.h"
#include "tandem/datasets/idx_array_detail.h"
#include "tandem/datasets/idx_folder_detail.h"

namespace tandem::datasets {
namespace {

namespace fs = std::filesystem;

Error corrupt(const fs::path& file, const std::string& problem) {
  return {ErrorCode::kCorrupt, file.string() + ": " + problem};
}

std::string number_text(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

/// The first value of a dense tensor that float32 cannot hold or that is not finite.
template <class T>
Result<void> check_values(const fs::path& file, const at::Tensor& values) {
  const T* begin = values.data_ptr<T>();
  const T* end = begin + values.numel();
  constexpr auto kLargest = static_cast<T>(std::numeric_limits<float>::max());
  const T* bad =
      std::find_if_not(begin, end, [](T value) { return std::abs(value) <= kLargest; });  // NaN neither
  if (bad == end) return {};
  const int64_t position = bad - begin;
  const int64_t per_example = values.numel() / values.size(0);
  return corrupt(
      file, "value " + std::to_string(position % per_example) + " of example " +
                std::to_string(position / per_example) + " (both counted from 0) is " +
                number_text(static_cast<double>(*bad)) +
                (std::isfinite(*bad) ? ", beyond what float32 holds" : "; training needs finite values"));
}

/// Labels that some programs write as floating-point numbers; each must be whole.
Result<at::Tensor> whole_labels(const fs::path& file, const at::Tensor& values) {
  const at::Tensor wide = values.to(at::kDouble);
  const double* begin = wide.data_ptr<double>();
  const double* end = begin + wide.numel();
  const auto is_label = [](double value) { return std::trunc(value) == value && std::abs(value) < 9e15; };
  const double* bad = std::find_if_not(begin, end, is_label);
  if (bad == end) return wide.to(at::kLong);
  return corrupt(file, "the label of example " + std::to_string(bad - begin) + " (counted from 0) is " +
                           number_text(*bad) + "; labels are whole numbers, one for each class");
}

std::vector<int64_t> image_shape(const std::vector<int64_t>& sizes) {
  if (sizes.size() == 3) return {sizes[0], 1, sizes[1], sizes[2]};
  return sizes;
}

}  // namespace

Result<at::Tensor> read_idx_images(const fs::path& file) {
  Result<GzipReader> reader = GzipReader::open(file);
  if (!reader) return reader.error();
  const Result<IdxHeader> header = read_idx_header(*reader, "image");
  if (!header) return header.error();
  if (header->sizes.size() < 2) {
    return corrupt(file,
                   "holds " + header->describe() +
                       ", expected images in 3 dimensions (N x rows x columns), 4 (N x channels x rows x "
                       "columns) or 2 (N x features)");
  }
  const Result<at::Tensor> values = read_idx_values(*reader, *header, "image data");
  if (!values) return values;
  Result<void> checked;
  if (header->type == at::kFloat) checked = check_values<float>(file, *values);
  if (header->type == at::kDouble) checked = check_values<double>(file, *values);
  if (!checked) return checked.error();
  const at::Tensor images = header->type == at::kByte ? *values : values->to(at::kFloat);
  return images.view(image_shape(header->sizes));
}

Result<at::Tensor> read_idx_labels(const fs::path& file) {
  Result<GzipReader> reader = GzipReader::open(file);
  if (!reader) return reader.error();
  const Result<IdxHeader> header = read_idx_header(*reader, "label");
  if (!header) return header.error();
  const int64_t per_example = header->sizes.size() == 2 ? header->sizes[1] : 1;
  if (header->sizes.size() > 2 || per_example != 1) {
    return corrupt(file,
                   "holds " + header->describe() + ", expected one label for each example, in 1 dimension" +
                       (header->sizes.size() == 2
                            ? "; where each row marks its class (one-hot), store the number of the class"
                            : ""));
  }
  const Result<at::Tensor> values = read_idx_values(*reader, *header, "labels");
  if (!values) return values;
  const at::Tensor labels = values->view({-1});
  if (at::isFloatingType(header->type)) return whole_labels(file, labels);
  return labels.to(at::kLong);
}

Result<std::shared_ptr<const TensorDataset>> read_idx(const fs::path& directory, Split split,
                                                      int64_t declared_classes) {
  const Result<IdxFiles> files = find_idx_files(directory, split);
  if (!files) return files.error();
  // Labels first: they are quick to read, and what is wrong with them is then said at once.
  const Result<at::Tensor> labels = read_idx_labels(files->labels);
  if (!labels) return labels.error();
  const Result<ClassCount> count = count_classes(*labels, declared_classes, files->labels.string());
  if (!count) return count.error();
  const Result<at::Tensor> images = read_idx_images(files->images);
  if (!images) return images.error();
  if (images->size(0) != labels->size(0)) {
    return Error{ErrorCode::kCorrupt,
                 files->images.string() + " holds " + with_commas(static_cast<uint64_t>(images->size(0))) +
                     " images but " + files->labels.string() + " holds " +
                     with_commas(static_cast<uint64_t>(labels->size(0))) + " labels: not a pair"};
  }
  if (!count->warning.empty()) spdlog::warn("{}", count->warning);
  return std::make_shared<const TensorDataset>(*images, *labels, count->classes);
}

}  // namespace tandem::datasets
