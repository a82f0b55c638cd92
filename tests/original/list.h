/* An intrusive list with the names of the Linux kernel's, as far as the original program uses them. */
#ifndef LIST_H
#define LIST_H

#include <stddef.h>

struct list_head {
    struct list_head *next, *prev;
};

#define list_entry(link, type, member) ((type *)((char *)(link) - offsetof(type, member)))
#define list_for_each(link, head) for ((link) = (head)->next; (link) != (head); (link) = (link)->next)

static inline void INIT_LIST_HEAD(struct list_head *head)
{
    head->next = head->prev = head;
}

static inline void list_add_tail(struct list_head *link, struct list_head *head)
{
    link->prev = head->prev;
    link->next = head;
    link->prev->next = link;
    head->prev = link;
}

static inline void list_del(struct list_head *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    /* Poisoned, as the kernel does it: a second list_del is a crash and not a silent success. */
    link->next = (struct list_head *)0x100;
    link->prev = (struct list_head *)0x122;
}

#endif
