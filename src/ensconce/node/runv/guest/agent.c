// SPDX-License-Identifier: Apache-2.0
// The loop: frames from the host, streams of processes, children that ended.
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

static struct process processes[MOST_PROCESSES];

struct process *process_at(size_t index) {
    return &processes[index];
}

struct process *find_process(uint32_t stream) {
    for (size_t each = 0; stream && each < MOST_PROCESSES; each++)
        if (processes[each].stream == stream)
            return &processes[each];
    return NULL;
}

static void shut(int *descriptor) {
    if (*descriptor >= 0)
        close(*descriptor);
    *descriptor = -1;
}

static void end_process(struct process *process) {
    uint8_t result[8];
    bool signalled = WIFSIGNALED(process->result);
    put32(result, signalled ? 128u + (uint32_t)WTERMSIG(process->result)
                            : (uint32_t)WEXITSTATUS(process->result));
    put32(result + 4, signalled ? (uint32_t)WTERMSIG(process->result) : 0);
    if (process->first)
        forget_container(process->container);
    send_frame(EXITED, process->stream, result, sizeof result);
    shut(&process->input);
    shut(&process->status);
    process->stream = 0;
}

// The first word of a new process is an empty one, which may carry its terminal; a text is an error.
static void hear_status(struct process *process) {
    char text[1024], space[CMSG_SPACE(sizeof(int))];
    struct iovec part = {text, sizeof text - 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space,
                             .msg_controllen = sizeof space};
    ssize_t got = recvmsg(process->status, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        shut(&process->status);  // it is the container's program now, or has ended
        if (!process->exited)
            send_number(DONE, process->stream, 0);
        return;
    }
    if (got > 1 || text[0]) {
        text[got] = 0;
        send_text(FAILED, process->stream, text);
        return;
    }
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) {
        memcpy(&process->terminal, CMSG_DATA(header), sizeof(int));
        fcntl(process->terminal, F_SETFL, O_NONBLOCK);
        process->outputs[0] = process->terminal;
    }
    process->created = true;
    send_number(DONE, process->stream, (uint32_t)process->pid);
}

static void pump_output(struct process *process, int which) {
    uint8_t bytes[MOST_DATA];
    int *from = &process->outputs[which];
    while (*from >= 0 && process->credit && room_to_send() > (1 << 20)) {
        size_t most = process->credit < sizeof bytes ? process->credit : sizeof bytes;
        ssize_t got = read(*from, bytes, most);
        if (got > 0) {
            process->credit -= (uint32_t)got;
            send_frame(which ? ERRORS : OUTPUT, process->stream, bytes, (size_t)got);
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN && !process->exited)
            return;
        // its end, also where a process that outlives it still holds the other end
        if (*from == process->terminal)
            process->terminal = -1;
        shut(from);
    }
}

static void pump_input(struct process *process) {
    int to = process->terminal >= 0 ? process->terminal : process->input;
    while (to >= 0 && process->pending_size) {
        ssize_t sent = write(to, process->pending, process->pending_size);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        uint32_t done = sent < 0 ? process->pending_size : (uint32_t)sent;  // nobody reads it
        memmove(process->pending, process->pending + done, process->pending_size - done);
        process->pending_size -= done;
        send_number(TAKEN, process->stream, done);
    }
    if (process->input_ended && !process->pending_size)
        shut(&process->input);
}

static void take_input(struct process *process, const struct frame *frame) {
    if (frame->size > WINDOW - process->pending_size)
        power_off();  // the host broke the protocol
    memcpy(process->pending + process->pending_size, frame->payload, frame->size);
    process->pending_size += frame->size;
    pump_input(process);
}

static void to_process(struct process *process, const struct frame *frame) {
    struct cursor cursor = {frame->payload, frame->size, false};
    const char *wrong = NULL;
    uint32_t first = 0, second = 0;
    if (frame->kind == CREDIT || frame->kind == SIGNAL || frame->kind == RESIZE)
        first = take32(&cursor);
    if (frame->kind == SIGNAL || frame->kind == RESIZE)
        second = take32(&cursor);
    if (cursor.bad)
        power_off();
    switch (frame->kind) {
    case START:
        if (send(process->status, "", 1, MSG_NOSIGNAL) != 1)
            wrong = "the process can't be started twice";
        break;
    case INPUT: take_input(process, frame); break;
    case INPUT_END:
        process->input_ended = true;
        pump_input(process);
        break;
    case CREDIT:
        if (first > WINDOW - process->credit)
            power_off();
        process->credit += first;
        break;
    case SIGNAL: wrong = signal_process(process, (int)first, second != 0); break;
    case RESIZE: {
        struct winsize size = {.ws_row = (unsigned short)first, .ws_col = (unsigned short)second};
        if (process->terminal >= 0)
            ioctl(process->terminal, TIOCSWINSZ, &size);
        break;
    }
    default: power_off();
    }
    if (wrong)
        send_text(FAILED, process->stream, wrong);
}

static void obey(const struct frame *frame) {
    const char *wrong = NULL;
    if (frame->kind == POD) {
        wrong = set_up_pod(frame->payload, frame->size);
        if (!wrong)
            send_number(DONE, 0, 0);
    } else if (frame->kind == RUN) {
        wrong = run_process(frame->stream, frame->payload, frame->size);
    } else {
        struct process *process = find_process(frame->stream);
        if (process)  // else it ended while the frame was under way
            to_process(process, frame);
    }
    if (wrong)
        send_text(FAILED, frame->stream, wrong);
}

static void obey_all(void) {
    struct frame frame;
    int found;
    while ((found = next_frame(&incoming, &frame)) > 0) {
        obey(&frame);
        drop_frame(&incoming, &frame);
    }
    if (found < 0)
        power_off();
}

static void reap(int signals) {
    struct signalfd_siginfo ignored;
    while (read(signals, &ignored, sizeof ignored) > 0) {
    }
    int result;
    for (pid_t pid; (pid = waitpid(-1, &result, WNOHANG)) > 0;)
        for (size_t each = 0; each < MOST_PROCESSES; each++)
            if (processes[each].stream && processes[each].pid == pid) {
                processes[each].exited = true;
                processes[each].result = result;
            }
}

static void tend(struct process *process) {
    if (process->status >= 0)
        hear_status(process);
    pump_input(process);
    pump_output(process, 0);
    pump_output(process, 1);
    if (process->exited && process->outputs[0] < 0 && process->outputs[1] < 0) {
        if (process->status >= 0)
            hear_status(process);
        end_process(process);
    }
}

static size_t want(struct pollfd *list, int descriptor, short events) {
    *list = (struct pollfd){descriptor, events, 0};
    return descriptor >= 0;
}

static void wait_for_events(int signals) {
    static struct pollfd list[MOST_PROCESSES * 4 + 2];
    size_t count = want(list, signals, POLLIN);
    count += want(list + count, channel, (short)(POLLIN | (has_unsent() ? POLLOUT : 0)));
    bool may_send = room_to_send() > (1 << 20);
    for (size_t each = 0; each < MOST_PROCESSES; each++) {
        const struct process *process = &processes[each];
        if (!process->stream)
            continue;
        bool reads = may_send && process->credit;
        count += want(list + count, process->status, POLLIN);
        for (int which = 0; reads && which < 2; which++)
            count += want(list + count, process->outputs[which], POLLIN);
        int to = process->terminal >= 0 ? process->terminal : process->input;
        if (process->pending_size)
            count += want(list + count, to, POLLOUT);
    }
    poll(list, count, -1);
}

static _Noreturn void serve(int signals) {
    struct utsname system;
    uname(&system);
    uint8_t hello[4 + sizeof system.release];
    put32(hello, WIRE_VERSION);
    memcpy(hello + 4, system.release, sizeof system.release);
    send_frame(READY, 0, hello, 4 + strlen(system.release));
    for (;;) {
        flush_channel();
        wait_for_events(signals);
        fill_channel();
        obey_all();
        reap(signals);
        for (size_t each = 0; each < MOST_PROCESSES; each++)
            if (processes[each].stream)
                tend(&processes[each]);
    }
}

int main(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    boot();
    channel = find_channel();
    serve(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
}
