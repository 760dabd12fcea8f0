#include "tandem/core/program/flags.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <stdexcept>
#include <utility>

#include <CLI/CLI.hpp>

#include "tandem/core/base/version.h"
#include "tandem/core/base/wording_detail.h"
#include "tandem/core/program/flag_detail.h"
#include "tandem/core/program/flags_file_detail.h"
#include "tandem/core/program/flags_help_detail.h"
#include "tandem/core/program/flags_reference_detail.h"
#include "tandem/core/run/log_detail.h"

namespace tandem {
namespace {

using detail::did_you_mean;
using detail::Flag;
using detail::in_quotes;
using detail::invalid;
using detail::kConfigFlag;
using detail::Texts;

std::string without_dashes(const std::string& argument) {
  const size_t start = argument.find_first_not_of('-');
  return start == std::string::npos ? "" : argument.substr(start, argument.find('=') - start);
}

bool valid_flag_name(const std::string& name) {
  return !name.empty() && name.front() != '-' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
}

}  // namespace

struct Flags::Impl {
  enum class Request { kRun, kShowHelp, kShowReference, kShowVersion };

  std::string program;
  std::string description;
  detail::Section section;
  detail::FlagTable flags;
  std::filesystem::path config;

  Flag& add(const std::string& name, detail::FlagTarget target, const std::string& help, Texts choices,
            bool positional);
  const Flag* find(const std::string& name) const;

  bool wants_json(int argc, const char* const* argv) const;
  Result<Request> read_command_line(int argc, const char* const* argv,
                                    std::vector<detail::GivenReplaced>& replaced);
  Result<Request> tokenize(CLI::App& app, int argc, const char* const* argv);
  Result<void> read_leftovers(const Texts& leftovers, std::vector<detail::GivenReplaced>& replaced) const;
  Error unknown_argument(const std::string& argument) const;
  Result<void> check_counts() const;
  Result<void> apply_command_line(bool config_only);
  Result<void> apply(std::vector<detail::GivenReplaced>& replaced);
};

Flag& Flags::Impl::add(const std::string& name, detail::FlagTarget target, const std::string& help,
                       Texts choices, bool positional) {
  if (!valid_flag_name(name)) throw std::logic_error("flag name " + in_quotes(name) + " is badly formed");
  if (find(name) || name == "help" || name == "help-markdown" || name == "version") {
    throw std::logic_error("flag " + in_quotes(name) + " is added twice");
  }
  Flag flag{name, help, section, target, std::move(choices), detail::plain_text(target)};
  flag.positional = positional;
  flag.default_value = detail::canonical_text(flag);
  return flags.emplace_back(std::move(flag));
}

const Flag* Flags::Impl::find(const std::string& name) const {
  const auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& f) { return f.name == name; });
  return found == flags.end() ? nullptr : &*found;
}

Error Flags::Impl::unknown_argument(const std::string& argument) const {
  if (argument.empty() || argument.front() != '-')
    return invalid("unexpected argument " + in_quotes(argument));
  const std::string shown = argument.substr(0, argument.find('='));
  Texts known;
  for (const Flag& flag : flags) {
    if (!flag.positional) known.push_back(flag.name);
  }
  known.insert(known.end(), {"help", "version"});
  return invalid("unknown flag " + in_quotes(shown) + did_you_mean(without_dashes(argument), known, "--"));
}

/// Collects the flags of earlier versions among the words that CLI11 left over; any other word is a mistake.
Result<void> Flags::Impl::read_leftovers(const Texts& leftovers,
                                         std::vector<detail::GivenReplaced>& replaced) const {
  for (size_t i = 0; i < leftovers.size(); ++i) {
    const std::string& word = leftovers[i];
    if (word == "--") continue;  // CLI11 keeps the mark that ends the flags
    const auto found = detail::find_replaced(flags, word.starts_with("--") ? without_dashes(word) : "");
    if (found.flag == nullptr) return unknown_argument(word);
    const size_t equals = word.find('=');
    std::string value = "VALUE";
    if (equals != std::string::npos) {
      value = word.substr(equals + 1);
    } else if (i + 1 < leftovers.size() && !leftovers[i + 1].starts_with("--")) {
      value = leftovers[++i];
    }
    replaced.push_back({found, value, word.substr(0, equals) + " " + value, /*in_file=*/false});
  }
  return {};
}

/// Only splits the words: CLI11 hands back raw texts, and everything after (types, ranges, wording) is
/// the same for the file and the command line.
Result<Flags::Impl::Request> Flags::Impl::tokenize(CLI::App& app, int argc, const char* const* argv) {
  app.set_help_flag();
  app.allow_extras();
  const CLI::Option* help = app.add_flag("-h,--help");
  const CLI::Option* reference = app.add_flag("--help-markdown");
  const CLI::Option* version = app.add_flag("--version");
  std::vector<const CLI::Option*> options;
  for (const Flag& flag : flags) {
    const bool is_switch = std::holds_alternative<bool*>(flag.target);
    CLI::Option* option = is_switch ? app.add_flag(flag.label()) : app.add_option(flag.label());
    option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    if (flag.positional && flag.repeatable()) option->expected(-1);
    options.push_back(option);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string text = error.what();
    return invalid(text.substr(0, text.find(':')) + " needs a value");
  } catch (const CLI::ParseError& error) {
    return invalid(error.what());
  }
  if (help->count() > 0) return Request::kShowHelp;
  if (reference->count() > 0) return Request::kShowReference;
  if (version->count() > 0) return Request::kShowVersion;
  for (size_t i = 0; i < flags.size(); ++i) flags[i].command_line = options[i]->results();
  return Request::kRun;
}

/// The wish counts although something is wrong with the command line or the file.
bool Flags::Impl::wants_json(int argc, const char* const* argv) const {
  const Flag* flag = find("log-format");
  if (flag == nullptr) return false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--log-format=json") return true;
    if (argument == "--log-format" && i + 1 < argc) return std::string(argv[i + 1]) == "json";
  }
  return *std::get<std::string*>(flag->target) == "json";
}

Result<Flags::Impl::Request> Flags::Impl::read_command_line(int argc, const char* const* argv,
                                                            std::vector<detail::GivenReplaced>& replaced) {
  CLI::App app;
  const auto request = tokenize(app, argc, argv);
  if (!request || *request != Request::kRun) return request;
  if (auto read = read_leftovers(app.remaining(), replaced); !read) return read.error();
  const auto counted = check_counts();
  if (!counted) return counted.error();
  return request;
}

Result<void> Flags::Impl::check_counts() const {
  for (const Flag& flag : flags) {
    if (flag.command_line.size() > 1 && !flag.repeatable()) return invalid(flag.label() + " is given twice");
    if (flag.command_line.empty() && flag.positional && !flag.may_be_left_out)
      return invalid("missing argument " + flag.label());
  }
  return {};
}

Result<void> Flags::Impl::apply_command_line(bool config_only) {
  for (Flag& flag : flags) {
    if (flag.command_line.empty() || (flag.name == kConfigFlag) != config_only) continue;
    const auto assigned = detail::assign(flag, flag.label(), flag.command_line);
    if (!assigned) return assigned;
  }
  return {};
}

/// The file comes between: it needs --config, and everything else on the command line overrides it.
Result<void> Flags::Impl::apply(std::vector<detail::GivenReplaced>& replaced) {
  if (auto named = apply_command_line(true); !named) return named;
  if (!config.empty()) {
    if (auto read = detail::apply_file(config, flags, replaced); !read) return read;
  }
  return apply_command_line(false);
}

Flags::Flags(std::string program, std::string description) : impl_(std::make_unique<Impl>()) {
  impl_->program = std::move(program);
  impl_->description = std::move(description);
  impl_->section = {"", "General"};
  impl_->add(std::string(kConfigFlag), &impl_->config,
             "a TOML file with flags as keys; the command line wins over it", {}, false);
  impl_->section = {"", "Flags"};
}

Flags::~Flags() = default;

void Flags::section(const std::string& name, const std::string& title) {
  if (!valid_flag_name(name)) throw std::logic_error("section name " + in_quotes(name) + " is badly formed");
  impl_->section = {name, title};
}

OptionRow Flags::add(const std::string& name, std::string& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add(const std::string& name, int32_t& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add(const std::string& name, uint32_t& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add(const std::string& name, int64_t& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add(const std::string& name, uint64_t& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add(const std::string& name, double& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add(const std::string& name, bool& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add(const std::string& name, std::vector<std::string>& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add_path(const std::string& name, std::filesystem::path& value, const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, false));
}
OptionRow Flags::add_data(const std::string& name, std::string& value, const std::string& help) {
  Flag& flag = impl_->add(name, &value, help, {}, false);
  flag.is_data = true;
  flag.default_value = detail::canonical_text(flag);
  return OptionRow(flag);
}
OptionRow Flags::add_choice(const std::string& name, std::string& value, std::vector<std::string> choices,
                            const std::string& help) {
  if (choices.empty()) throw std::logic_error("flag " + in_quotes(name) + " has no choices");
  return OptionRow(impl_->add(name, &value, help, std::move(choices), false));
}
void Flags::add_positional(const std::string& name, std::string& value, const std::string& help) {
  impl_->add(name, &value, help, {}, true);
}
OptionRow Flags::add_positional(const std::string& name, std::filesystem::path& value,
                                const std::string& help) {
  return OptionRow(impl_->add(name, &value, help, {}, true));
}
void Flags::add_positional(const std::string& name, std::vector<std::string>& value,
                           const std::string& help) {
  impl_->add(name, &value, help, {}, true);
}

std::optional<int> Flags::parse(int argc, const char* const* argv) {
  const auto fail = [&](const Error& error) {
    const std::string message = error.message + " (run " + impl_->program + " --help)";
    if (impl_->wants_json(argc, argv)) {
      std::cerr << detail::json_line(std::chrono::system_clock::now(), "error", impl_->program, message)
                << std::flush;
    } else {
      std::cerr << impl_->program << ": " << message << std::endl;
    }
    return kExitUsage;
  };
  std::vector<detail::GivenReplaced> replaced;
  const auto request = impl_->read_command_line(argc, argv, replaced);
  if (!request) return fail(request.error());
  if (*request == Impl::Request::kShowHelp) std::cout << help() << std::flush;
  if (*request == Impl::Request::kShowReference) std::cout << reference() << std::flush;
  if (*request == Impl::Request::kShowVersion) std::cout << impl_->program << " " << kVersion << std::endl;
  if (*request != Impl::Request::kRun) return kExitDone;
  const auto applied = impl_->apply(replaced);
  // What to write instead of a flag of earlier versions depends on the values, so far as they could be read.
  if (!replaced.empty()) return fail(detail::replaced_error(replaced));
  if (!applied) return fail(applied.error());
  if (auto checked = check(); !checked) return fail(checked.error());
  return std::nullopt;
}

Result<void> Flags::check() const {
  for (const Flag& flag : impl_->flags) {
    if (auto checked = detail::check_value(flag); !checked) return checked;
  }
  for (const Flag& flag : impl_->flags) {
    const auto idle = flag.may_stay_unused ? std::nullopt : detail::idle_message(flag);
    if (idle) return invalid(*idle);
  }
  return {};
}

std::vector<std::string> Flags::notes() const {
  std::vector<std::string> notes;
  for (const Flag& flag : impl_->flags) {
    const auto idle = flag.may_stay_unused ? detail::idle_message(flag) : std::nullopt;
    if (idle) notes.push_back(*idle);
  }
  return notes;
}

bool Flags::given(const std::string& name) const {
  const Flag* flag = impl_->find(name);
  if (flag == nullptr) throw std::logic_error("there is no flag " + in_quotes(name));
  return flag->given;
}

std::string Flags::to_toml(const std::filesystem::path& folder) const {
  return detail::file_text(impl_->flags, folder);
}

Result<std::vector<FlagDifference>> Flags::differences_from(const std::filesystem::path& recorded) const {
  return detail::differences_from(recorded, impl_->flags);
}

std::string Flags::text_of(const std::vector<FlagDifference>& differences) {
  const auto shown = [](const std::string& value) { return value.empty() ? "\"\"" : value; };
  std::string text;
  for (const FlagDifference& difference : differences) {
    text += (text.empty() ? "--" : "; --") + difference.name + " " + shown(difference.recorded) + ", now " +
            shown(difference.present);
  }
  return text;
}

std::string Flags::help() const {
  return detail::help_text(impl_->program, impl_->description, impl_->flags);
}

std::string Flags::reference() const {
  return detail::reference_text(impl_->program, impl_->description, impl_->flags);
}

}  // namespace tandem
