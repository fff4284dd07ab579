// SPDX-License-Identifier: Apache-2.0
// The guest's first process: it starts the containers' processes and carries their streams.
#ifndef ENSCONCE_AGENT_H
#define ENSCONCE_AGENT_H

#include <sys/types.h>

#include "plan.h"

enum { MOST_PROCESSES = 256 };

struct process {
    uint32_t stream;  // 0: free
    pid_t pid;
    char container[MOST_NAME + 1];
    bool first;    // its end is the container's
    bool created;  // its set-up is done
    bool exited;
    int result;     // as waitpid gives it
    int status;     // to the child while it is not the container's program yet
    int terminal;   // its master, instead of input and outputs
    int input, outputs[2];
    uint32_t credit;  // bytes that may still go to the host
    uint8_t pending[WINDOW];  // input that the process has not taken yet
    uint32_t pending_size, input_left;
    bool input_ended;
};

struct process *find_process(uint32_t stream);
struct process *process_at(size_t index);

// In boot.c: what is done once.
void boot(void);
int find_channel(void);

// In link.c: the channel to the host.
extern int channel;
extern struct reader incoming;
size_t room_to_send(void);
void send_frame(uint32_t kind, uint32_t stream, const void *payload, size_t size);
void send_number(uint32_t kind, uint32_t stream, uint32_t number);
void send_text(uint32_t kind, uint32_t stream, const char *text);
void flush_channel(void);
bool has_unsent(void);
void fill_channel(void);
_Noreturn void power_off(void);

// In pod.c: what a POD frame says.
const char *set_up_pod(const uint8_t *payload, size_t size);

// In birth.c
const char *run_process(uint32_t stream, const uint8_t *payload, size_t size);
const char *signal_process(struct process *process, int number, bool all);
void forget_container(const char *container);


#endif
