/* What the daemon does when nobody writes (fs/rest.c), and the same on request. */
#ifndef CAIRN_FS_REST_H
#define CAIRN_FS_REST_H

#include "fs/service_internal.h"
#include "snapshot/order.h"

struct rest;

int rest_start(struct service *service, struct rest **ret);
struct rest *rest_stop(struct rest *rest); /* NULL is fine */

/* Puts all files of all workspaces in order, now.  `stop` and `ret_moved` may be NULL. */
int rest_order_all(struct service *service, order_stop *stop, void *context,
		   struct order_result *result, struct relocation_result *ret_moved);

#endif
