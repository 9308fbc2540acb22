#pragma once

/* A non-blocking connection to a unix socket, -1 with errno: nobody listens (yet), or its queue is
 * full. Never waits. */
int connect_unix(const char *path);
