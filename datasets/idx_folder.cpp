#include <algorithm>
#include <array>
#include <fstream>
#include <regex>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tandem/core/storage/file_content.h"
#include "tandem/datasets/idx_folder_detail.h"

namespace tandem::datasets {
namespace {

namespace fs = std::filesystem;

/// One of the two files that are looked for.
struct Role {
  std::string title;   ///< "training images"
  std::string ending;  ///< "train-images-idx3-ubyte"
  std::regex name;
};

Role make_role(Split split, bool images) {
  const bool train = split == Split::kTrain;
  const std::string half = train ? "train(ing)?" : "(t10k|test(ing)?)";
  const std::string content = images ? "images?" : "labels?";
  return {.title = std::string(train ? "training " : "test ") + (images ? "images" : "labels"),
          .ending =
              std::string(train ? "train" : "t10k") + (images ? "-images-idx3-ubyte" : "-labels-idx1-ubyte"),
          .name = std::regex(".*" + half + "[-._]" + content +
                                 "[-._]idx[0-9]([-._](u?byte|short|int|float|double))?(\\.gz)?",
                             std::regex::icase)};
}

std::string without_gz(const std::string& name) {
  return name.ends_with(".gz") ? name.substr(0, name.size() - 3) : name;
}

std::string how_to_get(const fs::path& directory) {
  if (directory.string().find("fashion-mnist") != std::string::npos) {
    return "; install dataset-fashion-mnist or give idx:DIR";
  }
  return "; give idx:DIR with the four files of MNIST's format";
}

/// A few names of many, each in order.
std::string listed(const std::vector<std::string>& names, const std::string& conjunction) {
  constexpr size_t kMost = 8;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMost); ++i) {
    const bool last = i + 1 == names.size();
    text += (i == 0 ? "" : last ? conjunction : ", ") + names[i];
  }
  if (names.size() > kMost) text += " and " + std::to_string(names.size() - kMost) + " more";
  return text;
}

std::string beginning_of(const fs::path& file) {
  std::string bytes(kRecognizedBytes, '\0');
  std::ifstream in(file, std::ios::binary);
  in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  bytes.resize(static_cast<size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return bytes;
}

Error not_a_folder(const fs::path& path) {
  std::error_code ignored;
  std::string text = path.string();
  if (fs::is_regular_file(path, ignored)) {
    const auto content = recognize_content(beginning_of(path));
    text += " is a file" + (content ? " (" + content->what + ")" : std::string());
  } else {
    text += " is no folder";
  }
  return {ErrorCode::kIo, text + ", and idx:DIR needs the folder that holds the files"};
}

Result<void> check_folder(const fs::path& directory, const std::vector<Role>& roles) {
  if (const auto dangling = dangling_link(directory)) {
    return Error{ErrorCode::kNotFound, directory.string() + " " + *dangling};
  }
  std::error_code failed;
  const fs::file_status status = fs::status(directory, failed);
  if (status.type() == fs::file_type::not_found) {
    return Error{ErrorCode::kNotFound, directory.string() + ": no such folder, looked there for " +
                                           roles[0].ending + " and " + roles[1].ending +
                                           how_to_get(directory)};
  }
  if (failed) return Error{ErrorCode::kIo, directory.string() + ": cannot look there: " + failed.message()};
  if (!fs::is_directory(status)) return not_a_folder(directory);
  return {};
}

/// Without hidden ones, such as those that macOS leaves beside each file in an archive.
Result<std::vector<std::string>> names_in(const fs::path& directory) {
  std::error_code failed;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(directory, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with('.')) names.push_back(name);
  }
  if (failed) {
    return Error{ErrorCode::kIo, directory.string() + ": cannot read the folder: " + failed.message()};
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The names that could play the role.
std::vector<std::string> candidates_for(const Role& role, const fs::path& directory,
                                        const std::vector<std::string>& names) {
  std::vector<std::string> files;
  std::vector<std::string> others;
  for (const std::string& name : names) {
    if (!std::regex_match(name, role.name)) continue;
    std::error_code ignored;
    (fs::is_regular_file(directory / name, ignored) ? files : others).push_back(name);
  }
  // Sorted: NAME comes right before NAME.gz. Archives bring folders of the same name along; a file wins.
  const auto same_data = [](const std::string& a, const std::string& b) {
    return without_gz(a) == without_gz(b);
  };
  files.erase(std::unique(files.begin(), files.end(), same_data), files.end());
  return files.empty() ? others : files;
}

Error ambiguous(const Role& role, const fs::path& directory, const std::vector<std::string>& candidates) {
  return {ErrorCode::kInvalidArgument, directory.string() + ": each of " + listed(candidates, " and ") +
                                           " could be the " + role.title +
                                           "; leave one of them in the folder, or give a folder of its own"};
}

Error missing(const std::vector<Role>& missing_roles, const fs::path& directory,
              std::vector<std::string> names) {
  for (std::string& name : names) {
    std::error_code ignored;
    if (fs::is_directory(directory / name, ignored)) name += '/';
  }
  std::string titles;
  std::string endings;
  for (const Role& role : missing_roles) {
    titles += (titles.empty() ? "no " : " and no ") + role.title;
    endings += (endings.empty() ? "" : " or ") + role.ending;
  }
  return {ErrorCode::kNotFound, directory.string() + ": " + titles + ": no name there ends in " + endings +
                                    " (dots for dashes, test for t10k and .gz are fine too); the folder " +
                                    (names.empty() ? "is empty" : "holds " + listed(names, ", ")) +
                                    how_to_get(directory)};
}

}  // namespace

Result<IdxFiles> find_idx_files(const fs::path& directory, Split split) {
  const std::vector<Role> roles = {make_role(split, true), make_role(split, false)};
  if (auto checked = check_folder(directory, roles); !checked) return checked.error();
  const auto names = names_in(directory);
  if (!names) return names.error();
  std::array<fs::path, 2> found;
  std::vector<Role> missing_roles;
  for (size_t i = 0; i < roles.size(); ++i) {
    const std::vector<std::string> candidates = candidates_for(roles[i], directory, *names);
    if (candidates.size() > 1) return ambiguous(roles[i], directory, candidates);
    if (candidates.empty()) {
      missing_roles.push_back(roles[i]);
    } else {
      found[i] = directory / candidates.front();
    }
  }
  if (!missing_roles.empty()) return missing(missing_roles, directory, *names);
  return IdxFiles{.images = found[0], .labels = found[1]};
}

}  // namespace tandem::datasets
