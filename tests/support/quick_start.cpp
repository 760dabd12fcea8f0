// A library to preload (LD_PRELOAD): loading LibTorch takes a program half a second, and with this it does so once for
// many runs. Where main() would begin, the program waits at the socket TANDEM_QUICK_START_SOCKET instead; each request
// there makes a process of its own that runs main() with the folder, arguments, environment and descriptors of the
// request. That process becomes a child of whoever waits for orphans (PR_SET_CHILD_SUBREAPER), which is the test.
//
// A request is one message, strings that end with NUL: the folder, the number of arguments, these, and the
// environment; with it come the descriptors 0, 1 and 2. The answers are the number of the process and, once it
// has its new parent, ".".
#include <dlfcn.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace {

using Main = int (*)(int, char**, char**);
using Hook = void (*)();
using StartMain = int (*)(Main, int, char**, Hook, Hook, Hook, void*);

constexpr size_t kLongestRequest = size_t{1} << 18;

struct Request {
  std::vector<char> text;
  std::array<int, 3> descriptors{};
};

bool receive(int socket, Request& request) {
  request.text.assign(kLongestRequest, '\0');
  iovec text{request.text.data(), request.text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(request.descriptors))> rights{};
  msghdr message{};
  message.msg_iov = &text;
  message.msg_iovlen = 1;
  message.msg_control = rights.data();
  message.msg_controllen = rights.size();
  const ssize_t length = recvmsg(socket, &message, 0);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (length <= 0 || header == nullptr || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return false;
  std::memcpy(request.descriptors.data(), CMSG_DATA(header), sizeof(request.descriptors));
  request.text.resize(static_cast<size_t>(length));
  return true;
}

void answer(int socket, const std::string& text) {
  if (send(socket, text.data(), text.size(), MSG_NOSIGNAL) < 0) _exit(1);
}

/// Returns in the new process only; false in the one that waits.
bool made_process(int socket, const Request& request) {
  const pid_t between = fork();
  if (between == 0) {
    const pid_t process = fork();
    if (process == 0) return true;
    answer(socket, std::to_string(process));
    _exit(process > 0 ? 0 : 1);
  }
  for (const int descriptor : request.descriptors) close(descriptor);
  waitpid(between, nullptr, 0);
  answer(socket, ".");
  return false;
}

/// The arguments, which stay until the process ends; folder, descriptors and environment are taken on.
char** take_over(int socket, Request& request, int& count) {
  close(socket);
  for (int i = 0; i < 3; ++i) {
    dup2(request.descriptors[static_cast<size_t>(i)], i);
    close(request.descriptors[static_cast<size_t>(i)]);
  }
  char* const end = request.text.data() + request.text.size();
  char* next = request.text.data();
  const auto take = [&next] { return std::exchange(next, next + std::strlen(next) + 1); };
  if (chdir(take()) != 0) _exit(127);
  count = std::atoi(take());
  auto& arguments = *new std::vector<char*>;
  for (int i = 0; i < count; ++i) arguments.push_back(take());
  arguments.push_back(nullptr);
  auto& variables = *new std::vector<char*>;
  while (next < end) variables.push_back(take());
  variables.push_back(nullptr);
  environ = variables.data();
  return arguments.data();
}

}  // namespace

// What a program calls when everything that it is linked with is initialised.
extern "C" int quick_start(Main main, int count, char** arguments, Hook init, Hook fini, Hook loader_fini,
                           void* stack_end) __asm__("__libc_start_main");
extern "C" int quick_start(Main main, int count, char** arguments, Hook init, Hook fini, Hook loader_fini,
                           void* stack_end) {
  const auto start = reinterpret_cast<StartMain>(dlsym(RTLD_NEXT, "__libc_start_main"));
  const char* number = std::getenv("TANDEM_QUICK_START_SOCKET");
  if (number == nullptr) return start(main, count, arguments, init, fini, loader_fini, stack_end);
  const int socket = std::atoi(number);
  auto& request = *new Request;
  while (receive(socket, request)) {
    if (!made_process(socket, request)) continue;
    arguments = take_over(socket, request, count);
    return start(main, count, arguments, init, fini, loader_fini, stack_end);
  }
  _exit(0);
}
