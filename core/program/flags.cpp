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
  enum class Request { kRun, kShowHelp, kShowVersion };

  std::string program;
  std::string description;
  std::string group = "Flags";
  std::vector<Flag> flags;
  std::vector<detail::RemovedFlag> removed;
  std::filesystem::path config;

  void add(const std::string& name, detail::FlagTarget target, const std::string& help, Texts choices,
           bool positional);
  const Flag* find(const std::string& name) const;
  Flag& known(const std::string& name);

  bool wants_json(int argc, const char* const* argv) const;
  Result<Request> read_command_line(int argc, const char* const* argv);
  Result<Request> tokenize(CLI::App& app, int argc, const char* const* argv);
  std::optional<Error> removed_argument(const Texts& arguments, size_t at) const;
  Error unknown_argument(const std::string& argument) const;
  Result<void> check_counts() const;
  Result<void> apply_command_line(bool config_only);
};

void Flags::Impl::add(const std::string& name, detail::FlagTarget target, const std::string& help,
                      Texts choices, bool positional) {
  if (!valid_flag_name(name)) throw std::logic_error("flag name " + in_quotes(name) + " is badly formed");
  if (find(name) || name == "help" || name == "version") {
    throw std::logic_error("flag " + in_quotes(name) + " is added twice");
  }
  Flag flag{name, help, group, target, std::move(choices), detail::default_text(target)};
  flag.positional = positional;
  flags.push_back(std::move(flag));
}

const Flag* Flags::Impl::find(const std::string& name) const {
  const auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& f) { return f.name == name; });
  return found == flags.end() ? nullptr : &*found;
}

Flag& Flags::Impl::known(const std::string& name) {
  for (Flag& flag : flags) {
    if (flag.name == name) return flag;
  }
  throw std::logic_error("there is no flag " + in_quotes(name));
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

/// If arguments[at] is a flag of earlier versions, says what to write instead of it and its value.
std::optional<Error> Flags::Impl::removed_argument(const Texts& arguments, size_t at) const {
  const std::string& argument = arguments[at];
  const auto found = std::find_if(removed.begin(), removed.end(), [&](const detail::RemovedFlag& flag) {
    return argument == "--" + flag.name || argument.starts_with("--" + flag.name + "=");
  });
  if (found == removed.end()) return std::nullopt;
  const size_t equals = argument.find('=');
  std::string value = "VALUE";
  if (equals != std::string::npos) {
    value = argument.substr(equals + 1);
  } else if (at + 1 < arguments.size()) {
    value = arguments[at + 1];
  }
  const Flag& present = *find(found->flag);
  const std::string specification =
      present.command_line.empty() ? *std::get<std::string*>(present.target) : present.command_line.front();
  return invalid("--" + found->name + " " + value + " is now part of " + present.label() + ": " +
                 present.label() + " " + detail::with_parameter(specification, found->parameter, value));
}

/// Only splits the words: CLI11 hands back raw texts, and everything after (types, ranges, wording) is
/// the same for the file and the command line.
Result<Flags::Impl::Request> Flags::Impl::tokenize(CLI::App& app, int argc, const char* const* argv) {
  app.set_help_flag();
  app.allow_extras();
  const CLI::Option* help = app.add_flag("-h,--help");
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

Result<Flags::Impl::Request> Flags::Impl::read_command_line(int argc, const char* const* argv) {
  CLI::App app;
  const auto request = tokenize(app, argc, argv);
  if (!request || *request != Request::kRun) return request;
  const Texts leftovers = app.remaining();
  for (size_t i = 0; i < leftovers.size(); ++i) {
    if (leftovers[i] == "--") continue;  // CLI11 keeps the mark that ends the flags
    if (const auto removed_one = removed_argument(leftovers, i)) return *removed_one;
    return unknown_argument(leftovers[i]);
  }
  const auto counted = check_counts();
  if (!counted) return counted.error();
  return request;
}

Result<void> Flags::Impl::check_counts() const {
  for (const Flag& flag : flags) {
    if (flag.command_line.size() > 1 && !flag.repeatable()) return invalid(flag.label() + " is given twice");
    if (flag.command_line.empty() && flag.positional) return invalid("missing argument " + flag.label());
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

Flags::Flags(std::string program, std::string description) : impl_(std::make_unique<Impl>()) {
  impl_->program = std::move(program);
  impl_->description = std::move(description);
  impl_->group = "General";
  impl_->add(std::string(kConfigFlag), &impl_->config,
             "a TOML file with flags as keys; the command line wins over it", {}, false);
  impl_->group = "Flags";
}

Flags::~Flags() = default;

void Flags::group(const std::string& title) {
  impl_->group = title;
}

void Flags::add(const std::string& name, std::string& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, int32_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, uint32_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, int64_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, uint64_t& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, double& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, bool& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add(const std::string& name, std::vector<std::string>& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add_path(const std::string& name, std::filesystem::path& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
}
void Flags::add_data(const std::string& name, std::string& value, const std::string& help) {
  impl_->add(name, &value, help, {}, false);
  impl_->flags.back().is_data = true;
}
void Flags::add_choice(const std::string& name, std::string& value, std::vector<std::string> choices,
                       const std::string& help) {
  if (choices.empty()) throw std::logic_error("flag " + in_quotes(name) + " has no choices");
  impl_->add(name, &value, help, std::move(choices), false);
}
void Flags::add_removed(const std::string& name, const std::string& flag, const std::string& parameter) {
  if (!std::holds_alternative<std::string*>(impl_->known(flag).target)) {
    throw std::logic_error("flag " + in_quotes(flag) + " takes no specification");
  }
  impl_->removed.push_back({name, flag, parameter});
}
void Flags::add_positional(const std::string& name, std::string& value, const std::string& help) {
  impl_->add(name, &value, help, {}, true);
}

void Flags::add_positional(const std::string& name, std::filesystem::path& value, const std::string& help) {
  impl_->add(name, &value, help, {}, true);
}

void Flags::not_of_the_run(const std::vector<std::string>& names) {
  for (const std::string& name : names) impl_->known(name).of_the_run = false;
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
  const auto request = impl_->read_command_line(argc, argv);
  if (!request) return fail(request.error());
  if (*request == Impl::Request::kShowHelp) std::cout << help() << std::flush;
  if (*request == Impl::Request::kShowVersion) std::cout << impl_->program << " " << kVersion << std::endl;
  if (*request != Impl::Request::kRun) return kExitDone;
  // The file comes between: it needs --config, and everything else on the command line overrides it.
  const auto named = impl_->apply_command_line(true);
  if (!named) return fail(named.error());
  if (!impl_->config.empty()) {
    const auto from_file = detail::apply_file(impl_->config, impl_->removed, impl_->flags);
    if (!from_file) return fail(from_file.error());
  }
  const auto applied = impl_->apply_command_line(false);
  if (!applied) return fail(applied.error());
  return std::nullopt;
}

bool Flags::given(const std::string& name) const {
  return impl_->known(name).given;
}

std::string Flags::to_toml(const std::filesystem::path& folder) const {
  return detail::file_text(impl_->flags, folder);
}

Result<std::vector<FlagDifference>> Flags::differences_from(const std::filesystem::path& recorded,
                                                            const std::vector<std::string>& also) const {
  std::vector<Flag> flags = impl_->flags;
  for (Flag& flag : flags) {
    if (std::find(also.begin(), also.end(), flag.name) != also.end()) flag.of_the_run = true;
  }
  return detail::differences_from(recorded, flags);
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

}  // namespace tandem
