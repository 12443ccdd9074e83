/* The functions behind the command table, one file a family (tools/cmd_*.c). */
#ifndef CAIRN_TOOLS_COMMANDS_H
#define CAIRN_TOOLS_COMMANDS_H

struct invocation;

int cmd_init(struct invocation *invocation);
int cmd_status(struct invocation *invocation);
int cmd_gc(struct invocation *invocation);
int cmd_check(struct invocation *invocation);
int cmd_wait_durable(struct invocation *invocation);

int cmd_mount(struct invocation *invocation);
int cmd_umount(struct invocation *invocation);

int cmd_freeze(struct invocation *invocation);
int cmd_restore(struct invocation *invocation);
int cmd_carry(struct invocation *invocation);
int cmd_log(struct invocation *invocation);
int cmd_show(struct invocation *invocation);
int cmd_hold(struct invocation *invocation);
int cmd_release(struct invocation *invocation);
int cmd_rename(struct invocation *invocation);
int cmd_delete(struct invocation *invocation);
int cmd_prune(struct invocation *invocation);
int cmd_verdict(struct invocation *invocation);
int cmd_tag(struct invocation *invocation);
int cmd_journal(struct invocation *invocation);

int cmd_diff(struct invocation *invocation);
int cmd_ls(struct invocation *invocation);
int cmd_cat(struct invocation *invocation);
int cmd_find(struct invocation *invocation);

int cmd_clone(struct invocation *invocation);
int cmd_workspace_list(struct invocation *invocation);
int cmd_workspace_create(struct invocation *invocation);
int cmd_workspace_rename(struct invocation *invocation);
int cmd_workspace_delete(struct invocation *invocation);

int cmd_try(struct invocation *invocation);
int cmd_step(struct invocation *invocation);
int cmd_bisect(struct invocation *invocation);

/* Parts of others: check --digest POINT, show --digest POINT, restore POINT [PATH...] --to DIR. */
int check_digest(struct invocation *invocation, const char *point);
int show_digest(struct invocation *invocation);
int restore_to(struct invocation *invocation, const char *destination);

int cmd_help(struct invocation *invocation);
int cmd_version(struct invocation *invocation);

#endif
